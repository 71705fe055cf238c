"""What libraries import and we never use, left out."""

from __future__ import annotations

import sys


def leave_out_httpx_command() -> None:
    """Keep `import httpx` from importing its own command line, with click, rich and pygments: half of its time.

    httpx itself does without where those are not installed; this says that they are not.
    """
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
