"""Daemons of an init: what was started under a name is started again when it ends, until somebody stops it.

Only the standard library: the first process of every node imports this.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Any

from dynamos.testbed import children

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_LASTING = 10.0
GRACE = 5.0
"""Seconds that a daemon has to end by itself when it is stopped."""


class Daemon:
    """One daemon: what it is, its descriptors, and its process if there is one now."""

    def __init__(self, spec: dict[str, Any], fds: list[int]) -> None:
        self.spec = spec
        self.pid = 0
        self.due = float("inf")
        self.stopping = False
        self.restarts = -1
        self._fds = fds
        self._pause = _FIRST_PAUSE
        self._began = 0.0
        self.start()

    def start(self) -> None:
        """Start it now."""
        self.restarts += 1
        self._began = time.monotonic()
        self.due = float("inf")
        user = str(self.spec.get("user") or "root")
        self.pid = children.fork(children.program(self.spec), self._fds, user=user)

    def ended(self, code: int) -> None:
        """Note that its process has ended, and when it is due again: later each time, unless it had lasted."""
        now = time.monotonic()
        self._kill(signal.SIGKILL)  # what it left behind in its session
        self.pid = 0
        if self.stopping:
            return
        if now - self._began >= _LASTING:
            self._pause = _FIRST_PAUSE
        self.due = now + self._pause
        self._note(f"ended with {code}; starts again in {self._pause:g} s")
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def stop(self) -> None:
        """Ask it to end; it is killed when its grace is over."""
        self.stopping = True
        self.due = time.monotonic() + GRACE
        self._kill(signal.SIGTERM)

    def kill(self) -> None:
        self.due = float("inf")
        self._kill(signal.SIGKILL)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def _kill(self, number: int) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            if not self.restarts < 0 and number != signal.SIGKILL:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, number)

    def _note(self, text: str) -> None:
        with suppress(OSError):
            os.write(self._fds[2], f"[{self.spec['name']}] {text}\n".encode())
