"""Programs of proofs: how they get into hosts, run there, and go away again."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from dynamos.kit.errors import Broken, NotFound, TimedOut, Unavailable
from dynamos.testbed.hosts import Completed, Host

Name = Literal["listen", "knock", "capture", "forge"]

T = TypeVar("T")
R = TypeVar("R")

_PYTHON = 'exec "$(command -v python3 || echo "$0")" -I -S -c "$@"'
_FOLDER = "/run"
_READY_SECONDS, _LOOK_SECONDS = 20.0, 0.01
_WORKERS = 16


class Runs(Protocol):
    """A host as far as it is needed for programs that end."""

    @property
    def name(self) -> str: ...

    def run(
        self, argv: Sequence[str], *, stdin: bytes | None = None, check: bool = True, within: float = 30.0
    ) -> Completed: ...


@runtime_checkable
class Shellless(Protocol):
    """A host without a shell: `python` are the words that start Python there."""

    @property
    def python(self) -> Sequence[str]: ...


def run(host: Runs, name: Name, spec: Mapping[str, Any], *, within: float) -> str:
    """Run a program to its end with `spec` as its input, and give what it prints."""
    return host.run([*_argv(host, name)], stdin=json.dumps(spec).encode(), within=within).text


def answers(host: Runs, name: Name, spec: Mapping[str, Any], *, within: float) -> list[str]:
    """Run a program that prints a list of texts in JSON, and give that. Raises Broken where it prints something
    else."""
    told = run(host, name, spec, within=within)
    try:
        return [str(each) for each in json.loads(told)]
    except (ValueError, TypeError):
        raise Broken(f"{name} printed {told[:200]!r}", where=host.name) from None


class Started:
    """A program that works in a host until it is stopped."""

    def __init__(self, host: Host, name: str, path: str) -> None:
        self.host = host
        self._name = name
        self._path = path

    def told(self) -> str:
        """Give what it has written so far; nothing where it has not begun."""
        try:
            return self.host.get(self._path).decode()
        except NotFound:
            return ""

    def wait(self, ready: str) -> None:
        """Wait until it has written that word. Raises TimedOut."""
        end = time.monotonic() + _READY_SECONDS
        while ready not in self.told():
            if time.monotonic() >= end:
                raise TimedOut(f"{self._name} was not ready within {_READY_SECONDS:g} s", where=self.host.name)
            time.sleep(_LOOK_SECONDS)

    def stop(self) -> str:
        """End it, wait until it is gone, and give all that it wrote."""
        self.host.stop(self._name)
        told = self.told()
        self.host.run(["rm", "-f", self._path], check=False)
        return told


@contextmanager
def started(name: Name, specs: Sequence[tuple[Host, Mapping[str, Any]]]) -> Iterator[list[Started]]:
    """Have a program at work in several hosts, each with a spec of its own; all are gone afterwards."""
    with ExitStack() as stack:
        begun = []
        for host, _ in specs:
            token = secrets.token_hex(4)
            program = Started(host, f"proof-{name}-{token}", f"{_FOLDER}/proof-{name}-{token}")
            stack.callback(program.stop)
            begun.append(program)
        together(lambda pair: _begin(name, *pair), list(zip(begun, (spec for _, spec in specs), strict=True)))
        yield begun


def together(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do the work for all items at once, and give the results in order, or raise the first error."""
    several = list(items)
    if not several:
        return []
    with ThreadPoolExecutor(min(_WORKERS, len(several)), thread_name_prefix="proof") as pool:
        return list(pool.map(work, several))


def _begin(name: Name, program: Started, spec: Mapping[str, Any]) -> None:
    words = [*_argv(program.host, name), json.dumps({**spec, "told": program._path})]  # noqa: SLF001  ours
    if not program.host.start(program._name, words):  # noqa: SLF001
        raise Unavailable(f"{name} does not start", where=program.host.name)
    program.wait("ready")


def _argv(host: Runs, name: Name) -> tuple[str, ...]:
    if isinstance(host, Shellless):
        return (*host.python, "-I", "-S", "-c", text(name))
    return ("sh", "-c", _PYTHON, sys.executable, text(name))


@cache
def text(name: Name) -> str:
    """Give a program."""
    return files("dynamos.testbed.proofs.inside").joinpath(f"{name}.py").read_text(encoding="utf-8")
