"""The ending of a process that is not our child: known for sure, since a descriptor of it is held."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

from dynamos.kit.errors import TimedOut


def born(pid: int) -> int | None:
    """Give the kernel's start time of a process in clock ticks: with it a pid is sure. None where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


class Ending:
    """Waits for the end of the process that has this pid now."""

    def __init__(self, pid: int) -> None:
        self._fd: int | None = None
        with suppress(ProcessLookupError):
            self._fd = os.pidfd_open(pid)

    def kill(self) -> None:
        """Kill it, and nobody else who has its pid by now."""
        if self._fd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def wait(self, *, within: float, what: str) -> None:
        """Wait until it is gone, with everything that ends with it. Raises TimedOut. Once only."""
        if self._fd is None:
            return
        try:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            if not poll.poll(within * 1000):
                raise TimedOut(f"{what} was not gone within {within:g} s")
        finally:
            os.close(self._fd)
            self._fd = None
