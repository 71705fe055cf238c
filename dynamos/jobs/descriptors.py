"""File descriptors of a process that was forked: only its own stay open, at places that it is told."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence

_OUT_OF_THE_WAY = 200


def keep_only(kept: Iterable[int]) -> None:
    """Close every descriptor that is not in `kept`."""
    low = 0
    for descriptor in sorted(set(kept)):
        if low < descriptor:  # closerange(0, 0) closes everything
            os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, highest() + 1)


def arrange(wanted: Sequence[int]) -> None:
    """Put copies of `wanted` at 0, 1, 2, ..., inherited by programs, and close everything else."""
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _OUT_OF_THE_WAY) for descriptor in wanted]
    for place, descriptor in enumerate(moved):
        os.dup2(descriptor, place, inheritable=True)
    os.closerange(len(moved), highest() + 1)


def highest() -> int:
    """Give a number that no open descriptor of this process is above."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return max(int(name) for name in os.listdir(folder))  # noqa: PTH208  names are enough
        except OSError:
            continue
    return os.sysconf("SC_OPEN_MAX")
