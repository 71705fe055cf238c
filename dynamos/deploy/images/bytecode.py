"""Bytecode in images: compiled by the Python of the image itself, the same at each build, and never checked again.

A container with a read-only root cannot keep what it compiles: without this each start would compile everything anew.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from dynamos.kit.errors import JobFailed, TimedOut

COMPILE_SECONDS = 300.0
PYTHON = "usr/bin/python3.11"


def compile_all(folder: Path, root: Path, python_root: Path) -> None:
    """Compile what is below `folder`, a part of the image's root `root`.

    The Python in `python_root` is started through its own loader, so it needs no rights and none of this machine's
    libraries. One process in the order of the names: what it writes depends on nothing else.
    """
    libraries = next((python_root / "usr/lib").glob("*-linux-gnu"))
    loader = next(libraries.glob("ld-linux-*.so.*"))
    argv = [str(loader), "--library-path", str(libraries), str(python_root / PYTHON), "-S", "-B", "-m", "compileall"]
    argv += ["-q", "-q", "-s", str(root), "-p", "/", "--invalidation-mode", "unchecked-hash", str(folder)]
    environment = {"PYTHONHOME": str(python_root / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=COMPILE_SECONDS, env=environment)  # noqa: PLW1510
    except subprocess.TimeoutExpired:
        raise TimedOut(f"Python did not compile it within {COMPILE_SECONDS:g} s", where=str(folder)) from None
    if done.returncode < 0 or done.stderr.strip():  # 1 alone: a file of another Python's grammar, which stays as it is
        raise JobFailed(f"the Python of the image does not run here: {done.stderr.strip()}", where=str(folder))
