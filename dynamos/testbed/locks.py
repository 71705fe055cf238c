"""Locks of folders: one process at a time makes what is kept there, and a process that dies gives its lock back."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dynamos.kit.errors import TimedOut

_LOOK_SECONDS = 0.01


@contextmanager
def locked(folder: Path, *, within: float) -> Iterator[int]:
    """Hold the lock of a folder, which is made where it is missing; gives its descriptor, which may be handed on.

    Raises TimedOut.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + within
        while not _take(fd):
            if time.monotonic() >= end:
                raise TimedOut(f"somebody has worked in {folder} for more than {within:g} s", where=str(folder))
            time.sleep(_LOOK_SECONDS)
        yield fd
    finally:
        os.close(fd)


def _take(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
