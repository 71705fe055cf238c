"""Worlds for tests, and what the machine's own namespaces hold, which no world may change."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

from dynamos.kit.errors import Unavailable
from dynamos.testbed.boxes import Box
from dynamos.testbed.endings import born
from dynamos.testbed.worlds import World

KINDS = ("pid", "net", "mnt")


@contextmanager
def made_world(folder: Path, name: str = "tests", **options: object) -> Iterator[World]:
    """A world that ends with the test; skips where this machine has none for us."""
    try:
        world = World.create(folder, name, **options)
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        yield world
    finally:
        world.kill()


def needs(*programs: str) -> None:
    """Skip where a program is not installed."""
    missing = [name for name in programs if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def machine_state() -> dict[str, str]:
    """What the machine's own namespaces hold: devices, rules, routes, names of networks, mounts."""
    commands = {
        "links": "ip -o link",
        "links_and_addresses": "ip -o -4 address",
        "routes": "ip route show table all",
        "rules": "ip rule",
        "netns": "ip netns",
        "nft": "nft list ruleset",
    }
    told = {name: _output(command) for name, command in commands.items()}
    told["mounts"] = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return told


class Held:
    """The namespaces that boxes are in, held so that the kernel gives their numbers to nobody else."""

    def __init__(self, *boxes: Box) -> None:
        self._fds = [os.open(f"/proc/{box.pid}/ns/{kind}", os.O_RDONLY) for box in boxes for kind in KINDS]
        self._known = {_known(os.fstat(fd)) for fd in self._fds}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)

    def inhabitants(self) -> list[str]:
        """The processes of this machine that are in any of them; one that only waits to be taken has ended."""
        processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
        inside = [path.name for path in processes if any(self._is_in(path / "ns" / kind) for kind in KINDS)]
        return [pid for pid in inside if born(int(pid)) is not None]

    def _is_in(self, path: Path) -> bool:
        with suppress(OSError):
            return _known(path.stat()) in self._known
        return False


def _known(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino


def eventually(what: str, condition: Callable[[], object], *, within: float = 20.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {within:g} s"
        time.sleep(0.01)


def _output(command: str) -> str:
    try:
        return subprocess.run(command.split(), capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
