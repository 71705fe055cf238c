"""The call of a Python service, at the top of a process that is its own. Imports next to nothing: it is waited for."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from dynamos.kit.errors import DynamosError

Program = Callable[[Mapping[str, str]], int]
Find = Callable[[str], Program]

READER_GONE = 141
"""The exit code of a service whose reader has gone: what a shell gives for SIGPIPE."""
_MEMORY_ERROR = {"code": "out-of-memory", "message": "the service wanted more memory than it may use"}


def call(main: Program, variables: Mapping[str, str]) -> int:
    """Call a Python service and give its exit code. What it raises goes to its log, and its kind to its error."""
    code = 1
    try:
        code = main(variables)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except MemoryError:
        _report(variables, _MEMORY_ERROR)
    except DynamosError as failure:
        _report(variables, failure.as_dict())
    except BaseException as failure:  # noqa: BLE001  the top of a process
        number = failure.errno if isinstance(failure, OSError) else None
        if number == errno.EPIPE:
            return READER_GONE
        if number == errno.ENOMEM:
            _report(variables, _MEMORY_ERROR)
            return code
        traceback.print_exc()
        # Only the kind is told: the text of an unexpected error may quote data. The log stays with the party.
        _report(variables, {"code": "service-failed", "message": f"the service broke: {type(failure).__name__}"})
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def _report(variables: Mapping[str, str], error: dict[str, Any]) -> None:
    with suppress(OSError):
        os.write(int(variables["DYNAMOS_ERROR"]), json.dumps(error).encode())
