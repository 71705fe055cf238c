"""The agent's side of a zygote: start it, talk to it, see it end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from dynamos.jobs import wires
from dynamos.jobs.guards import guard
from dynamos.jobs.specs import Settings, StepReport, StepSpec
from dynamos.jobs.zygotes import ONE_THREAD, count_threads
from dynamos.kit.errors import Broken, TimedOut, Unavailable
from dynamos.kit.waits import until

_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Hello:
    """What a zygote says first: how it keeps services apart, or why it cannot (then `mode` is "")."""

    mode: str
    isolation: tuple[str, ...]
    why: str


class ZygoteClient:
    """A zygote and the wire to it. It ends when the wire is closed, by us or by our end."""

    def __init__(self, settings: Settings, pid: int, wire: socket.socket) -> None:
        self.settings = settings
        self.lost = False
        self._pid = pid
        self._wire = wire
        self._hello: Hello | None = None
        self._frames = wires.Frames()
        self._outbox = wires.Outbox(wire)
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def fork(cls, settings: Settings) -> Self:
        """Fork a zygote from this process, which may have imported what services use already.

        This must come first: before any thread, event loop, key or connection, because the zygote is a copy of this
        process. Raises Broken if there is more than one thread.
        """
        os.environ.update(ONE_THREAD)
        threads = count_threads()
        if threads > 1:
            raise Broken(f"this process has {threads} threads: a zygote is forked before the first one is started")
        ours, theirs = wires.pair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            ours.close()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            guard(settings, theirs)
        theirs.close()
        return cls(settings, pid, ours)

    @classmethod
    def start(cls, settings: Settings) -> Self:
        """Start a zygote in a fresh interpreter: any time, from a process with any number of threads."""
        ours, theirs = wires.pair()
        with theirs:
            kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "dynamos.jobs", str(theirs.fileno()), settings.as_json()],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**kept, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        process.returncode = 0  # reaped below, by number, like a forked one
        return cls(settings, process.pid, ours)

    def hello(self, *, within: float = 20.0) -> Hello:
        """Wait for the zygote to be ready. Raises Unavailable if it ended, TimedOut if it is not in time."""
        if self._hello is None:
            self._wire.settimeout(within)
            try:
                received = wires.receive(self._wire)
            except TimeoutError:
                raise TimedOut(f"the zygote was not ready within {within:g} s") from None
            finally:
                self._wire.settimeout(None)
            if received is None:
                self.lost = True
                raise Unavailable("the zygote ended before it was ready", code="runner-lost")
            said = received[0]["hello"]
            self._hello = Hello(said["mode"], tuple(said["isolation"]), said["why"])
        return self._hello

    def attach(self, told: Callable[[int, StepReport], None], lost: Callable[[], None]) -> None:
        """From now on call `told` with every report, and `lost` if the zygote ends. Needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._wire, self._listen, told, lost)

    def run(self, step: int, spec: StepSpec, streams: Sequence[int]) -> None:
        """Start one step; its descriptors stay ours to close. Raises Unavailable if the zygote is gone."""
        try:
            self._send({"step": step, "run": spec.as_json()}, streams)
        except OSError as error:
            self.lost = True
            raise Unavailable("the zygote does not listen", code="runner-lost", cause=str(error)) from error

    def kill(self, step: int) -> None:
        """End one step. Nothing happens if it has ended, or the zygote has."""
        with suppress(OSError):
            self._send({"kill": step})

    def end(self) -> None:
        """End the zygote and everything it runs now, without its help."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """Close the wire of a zygote that runs nothing, and wait for its end: bounded by its guard."""
        self._wire.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    async def close(self) -> None:
        """Close the wire, and wait until zygote and services have ended."""
        self._leave_loop()
        self._wire.close()
        try:
            await until("the zygote's end", self._ended, within=6.0, every=0.005)
        except TimedOut:
            self.end()
            await until("the killed zygote's end", self._ended, within=6.0)

    async def _ended(self) -> bool:
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] != 0  # noqa: ASYNC222  does not wait
        except ChildProcessError:
            return True

    def _send(self, message: wires.Message, streams: Sequence[int] = ()) -> None:
        """Send what goes at once, and the rest when the zygote reads."""
        self._outbox.put(message, streams)
        if self._outbox and self._loop is not None:
            self._loop.add_writer(self._wire, self._flush)

    def _flush(self) -> None:
        try:
            self._outbox.flush()
        except OSError:  # its end is seen by who listens
            self._outbox.discard()
        if not self._outbox and self._loop is not None:
            self._loop.remove_writer(self._wire)

    def _leave_loop(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._wire)
            self._loop.remove_writer(self._wire)
            self._loop = None
        self._outbox.discard()

    def _listen(self, told: Callable[[int, StepReport], None], lost: Callable[[], None]) -> None:
        try:
            data = self._wire.recv(_CHUNK)
        except OSError:
            data = b""
        for message in self._frames.feed(data):
            told(message["step"], StepReport.from_json(message["ended"]))
        if not data:
            self.lost = True
            self._leave_loop()
            lost()
