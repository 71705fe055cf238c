"""Consoles: how a guest is told what to do, by whichever process of the same person holds the testbed's folder.

A message is one line: a number, a verb and its words; the answer is one line with the same number, an exit code and at
most a thousand characters. Both ways are named pipes that the guest's daemon holds open, so a guest that starts again
goes on with them.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dynamos.kit.errors import Broken, TimedOut, Unavailable
from dynamos.testbed.locks import locked

READY = "ready"
"""The number of the line that a guest begins with."""

_LONGEST_LINE = 3000
_LOCK_SECONDS = 60.0
_CHUNK = 65536


class Console:
    """The two pipes of a guest, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self) -> None:
        """Make the pipes where they are missing."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("in", "out"):
            with suppress(FileExistsError):
                os.mkfifo(self._folder / name, 0o600)

    @contextmanager
    def ends(self) -> Iterator[tuple[int, int]]:
        """Give descriptors of both pipes: what the guest reads, and what it writes."""
        with _opened(self._folder / "in") as into, _opened(self._folder / "out") as out:
            yield into, out

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep everybody else from talking to the guest."""
        with locked(self._folder, within=_LOCK_SECONDS):
            yield

    def forget(self) -> None:
        """Drop what an earlier guest has said and nobody has heard, and what it was told and has not read."""
        with self.ends() as ends:
            for fd in ends:
                _drop(fd)

    def ready(self, *, within: float) -> None:
        """Wait for the line that a guest begins with. Raises TimedOut, and Unavailable where it did not come up."""
        with self.ends() as (_, out):
            _judge(_answer(out, READY, time.monotonic() + within))

    def tell(self, verb: str, lines: Sequence[str], *, within: float = 10.0) -> None:
        """Have the guest feed lines to a verb, and wait until it has. Raises Unavailable with what went wrong there,
        and TimedOut."""
        if not lines:
            return
        with self.held(), self.ends() as (into, out):
            _drop(out)
            for number, words in enumerate(_parts(lines)):
                name = f"{os.getpid()}.{time.monotonic_ns()}.{number}"
                _write(into, f"{name} {verb} {words}\n".encode())
                _judge(_answer(out, name, time.monotonic() + within))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)


def _parts(lines: Iterable[str]) -> Iterator[str]:
    """Join lines to as few as a terminal takes."""
    part = ""
    for line in lines:
        if part and len(part) + len(line) > _LONGEST_LINE:
            yield part
            part = ""
        part = f"{part};{line}" if part else line
    if part:
        yield part


def _drop(fd: int) -> None:
    with suppress(BlockingIOError):
        while os.read(fd, _CHUNK):
            pass


def _write(fd: int, data: bytes) -> None:
    if os.write(fd, data) != len(data):  # a pipe takes this much whole, or nothing
        raise Broken("a guest's console took half a line")


def _answer(fd: int, name: str, end: float) -> tuple[int, str]:
    """Read lines until the one of that number. A guest that has started again has done what it was told: it begins
    with all that it shall be."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    text = b""
    while True:
        *lines, text = text.split(b"\n")
        for line in lines:
            number, code, said = (*line.decode(errors="replace").strip().split(" ", 2), "", "")[:3]
            if number in (name, READY) and code.lstrip("-").isdigit():
                return int(code), said
        left = end - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimedOut("a guest of the WAN did not answer in time", hint="its log is in the testbed's folder")
        text += os.read(fd, _CHUNK)


def _judge(answer: tuple[int, str]) -> None:
    code, said = answer
    if code:
        raise Unavailable(f"the WAN's guest refused: {said.strip() or f'exit code {code}'}")
