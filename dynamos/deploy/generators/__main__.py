"""Runs one generator in a process of its own: `python -m dynamos.deploy.generators NAME FOLDER`.

So the libraries that it needs, and their threads, are gone when the data are there. The folder has to be empty. What
goes wrong is one line of JSON on standard output.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from dynamos.kit.errors import DynamosError, Full, Unavailable

MODULES = {"aviation": "aviation", "wage-gap": "wage_gap", "bench": "bench"}
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def main(name: str, folder: Path) -> int:
    """Write the data, and give the exit code."""
    write: Callable[[Path], None] = import_module(f"dynamos.deploy.generators.{MODULES[name]}").write
    try:
        write(folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        failure: DynamosError = Unavailable(f"the data cannot be written: {reason}", where=str(folder))
        if error.errno in NO_ROOM:
            failure = Full("no room for the data", where=str(folder), hint="free some, or name another folder")
    except DynamosError as error:
        failure = error
    else:
        return 0
    os.write(1, json.dumps({**failure.as_dict(), "kind": failure.code}).encode() + b"\n")
    return failure.exit


if __name__ == "__main__":
    # All is written. Libraries may have threads at work still, which would be torn down under their feet.
    os._exit(main(sys.argv[1], Path(sys.argv[2])))
