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

GRACE = 3.0
"""Seconds that a daemon has to end by itself when it is stopped."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_LASTING = 10.0
_NEVER = float("inf")


class Daemon:
    """One daemon: what it is, its descriptors, and its process if there is one now. It starts when it is made."""

    def __init__(self, spec: dict[str, Any], fds: list[int]) -> None:
        self.spec = spec
        self.pid = 0
        self.due = _NEVER
        self.stopping = False
        self.restarts = -1
        self._fds = fds
        self._pause = _FIRST_PAUSE
        self._began = 0.0
        self._start()

    def ended(self, code: int) -> None:
        """Note that its process has ended, and when it is due again: later each time, unless it had lasted."""
        now = time.monotonic()
        self.pid, self.due = 0, _NEVER
        if self.stopping:
            return
        if now - self._began >= _LASTING:
            self._pause = _FIRST_PAUSE
        self.due = now + self._pause
        with suppress(OSError):
            text = f"[{self.spec['name']}] ended with {code}; starts again in {self._pause:g} s\n"
            os.write(self._fds[2], text.encode())
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def stop(self) -> None:
        """Ask it to end; it is killed when its grace is over."""
        self.stopping = True
        self.due = time.monotonic() + GRACE
        self.signal(signal.SIGTERM)

    def proceed(self) -> None:
        """Do what is due now: start it again, or kill it."""
        if self.stopping:
            self.due = _NEVER
            self.signal(signal.SIGKILL)
        else:
            self._start()

    def signal(self, number: int) -> None:
        """Send a signal to its process and what that has started in its session."""
        if self.pid:
            children.end(self.pid, number)

    def close(self) -> None:
        """Close its descriptors."""
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def _start(self) -> None:
        self.restarts += 1
        self._began = time.monotonic()
        self.due = _NEVER
        user = str(self.spec.get("user") or "root")
        self.pid = children.fork(children.program(self.spec), self._fds, user=user)


class Daemons:
    """Every daemon of an init, by name."""

    def __init__(self) -> None:
        self._all: dict[str, Daemon] = {}

    def start(self, spec: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Start one, or find it at work already; give the caller's answer; `kept` are its descriptors."""
        known = self._all.get(spec["name"])
        if known:
            if known.spec == spec and not known.stopping:
                return {"pid": known.pid}
            return {"error": "another one has that name", "errno": 17}
        path = (spec.get("env") or {}).get("PATH", children.PATH)
        if not children.has(spec["argv"][0], path):
            return {"error": f"no such program: {spec['argv'][0]}", "errno": 2}
        daemon = self._all[spec["name"]] = Daemon(spec, fds)
        return {"pid": daemon.pid, "kept": True}

    def stop(self, name: str) -> bool:
        """Begin to stop one; tell whether there is anything to wait for."""
        daemon = self._all.get(name)
        if daemon is None:
            return False
        if not daemon.stopping:
            daemon.stop()
        if daemon.pid:
            return True
        self._all.pop(name).close()
        return False

    def by_pid(self, pid: int) -> Daemon | None:
        return next((daemon for daemon in self._all.values() if daemon.pid == pid), None)

    def ended(self, daemon: Daemon, code: int) -> str:
        """Note that a daemon's process has ended; give its name if it was to be stopped, and is gone."""
        daemon.ended(code)
        if not daemon.stopping:
            return ""
        name: str = daemon.spec["name"]
        self._all.pop(name).close()
        return name

    def patience(self) -> float | None:
        """Give the seconds until something is due."""
        due = min((daemon.due for daemon in self._all.values()), default=_NEVER)
        return None if due == _NEVER else max(0.0, due - time.monotonic())

    def proceed(self) -> None:
        """Do what is due now."""
        now = time.monotonic()
        for daemon in self._all.values():
            if daemon.due <= now:
                daemon.proceed()

    def told(self) -> dict[str, dict[str, int]]:
        """Tell of all of them."""
        return {name: {"pid": each.pid, "restarts": each.restarts} for name, each in self._all.items()}

    def close(self) -> None:
        """Close, in a forked child, what they have open."""
        for daemon in self._all.values():
            daemon.close()
