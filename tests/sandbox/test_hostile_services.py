"""What a hostile service cannot do. Every case is a real attempt by code that runs as a service."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dynamos.jobs.probes import sandbox_missing
from dynamos.jobs.runners import Outcome, Runner
from dynamos.jobs.sandbox import ProcessRunner, SandboxRunner
from dynamos.model.services import Limits
from support import runners as on
from support.attempts import SYSCALLS
from support.machine import alive, gone, leftovers

pytestmark = pytest.mark.sandbox
T = TypeVar("T")

SECRET = "the-agents-own-secret"
REFUSED = {"EPERM", "EACCES"}
NOT_THERE = {"ENOENT", "NotADirectoryError", "ESRCH", "ENOTDIR"}


class Bench:
    """A sandbox and the event loop that it lives in."""

    def __init__(self) -> None:
        self._loop = asyncio.Runner()
        os.environ["DYNAMOS_TEST_SECRET"] = SECRET
        try:
            self.runner = SandboxRunner.launch(on.PARTY, required=True, programs="support.runners")
        finally:
            del os.environ["DYNAMOS_TEST_SECRET"]

    def run(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(30):
                return await work

        return self._loop.run(bounded())

    def attempt(self, name: str, *, deadline: float = 20.0, **given: Any) -> Outcome:
        """Run one hostile service on its own; `limits` and `data` are given, the rest are its options."""
        limits, data = given.pop("limits", None), given.pop("data", None)
        work = on.assignment(
            on.part([on.step(name)], []),
            limits=Limits.model_validate(limits or {}),
            data={name: data} if data else {},
            deadline=deadline,
            **{name.replace("-", "_"): given},
        )
        return self.run(on.finish(self.runner, work))[0]

    def told(self, name: str, **given: Any) -> dict[str, Any]:
        """Run an attempt and give what came of it."""
        outcome = self.attempt(name, **given)
        assert outcome.error is not None
        assert outcome.error.as_dict()["code"] == "told", outcome.error.as_dict()
        return json.loads(outcome.error.message)

    def close(self) -> None:
        self.run(self.runner.close())
        self._loop.close()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    if missing := sandbox_missing():
        pytest.skip(missing)
    found = Bench()
    yield found
    found.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "uva"
    folder.mkdir(mode=0o700)
    (folder / "persons.csv").write_text("a,b\n")
    (folder / "persons.csv").chmod(0o600)
    return folder


def code(outcome: Outcome) -> str:
    assert outcome.error is not None
    return str(outcome.error.as_dict()["code"])


# the network


def test_it_opens_no_socket(bench: Bench) -> None:
    told = bench.told("opens-sockets")
    assert told.pop("own pair") == "done (1, b'x')"
    assert told.pop("interfaces") in NOT_THERE
    assert set(told.values()) <= REFUSED, told


def test_it_reaches_no_listener_of_the_machine_by_a_program(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        script = f"exec 2>/dev/null; (echo x > /dev/tcp/127.0.0.1/{port}) && exit 5; exit 6"
        work = on.assignment(on.part([on.step("dials")], []), commands={"dials": ("bash", "-c", script)})
        outcome, _ = bench.run(on.finish(bench.runner, work))
        assert outcome.error is not None
        assert outcome.error.facts["exit"] == 6
        with pytest.raises(BlockingIOError):
            server.accept()


# the kernel


def test_dangerous_system_calls_are_refused(bench: Bench) -> None:
    told = bench.told("makes-system-calls")
    assert told.pop("clone3") == "ENOSYS"
    assert told.keys() == SYSCALLS.keys() - {"clone3"}
    assert set(told.values()) == {"EPERM"}, told


def test_it_becomes_nobody_else_and_has_no_power(bench: Bench) -> None:
    told = bench.told("becomes-somebody")
    none = "0000000000000000"
    assert {name: told.pop(name) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")} == {
        "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2",
    }  # fmt: skip
    assert told.pop("ids") == [1000] * 6
    assert set(told.values()) <= {*REFUSED, "EINVAL", "ValueError"}, told


def test_programs_that_it_runs_are_held_as_well(bench: Bench) -> None:
    assert bench.told("runs-programs") == {"id": "1000", "caps": "0000000000000000", "seccomp": "2"}


# files


def test_it_sees_no_file_of_others(bench: Bench, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "vu"
    other.mkdir()
    (other / "persons.csv").write_text("c,d\n")
    files = ["/etc/shadow", str(other / "persons.csv"), "/data/../vu/persons.csv", f"/.host{other}/persons.csv"]
    folders = [str(tmp_path), "/home", "/var", "/sys", "/run", "/root/.ssh"]
    told = bench.told("looks-around", data=data, files=files, folders=folders)
    assert told.pop("processes") == [1, 2]
    assert told["mounts"].count("/data") == 1
    assert not any("/.host" in mount for mount in told.pop("mounts"))
    assert told.pop("/.host") in {"done []", *REFUSED}
    assert told.pop("/proc/self/root/.host") in {"done []", *REFUSED}
    assert set(told.values()) <= REFUSED | NOT_THERE, told


def test_a_step_without_data_sees_none(bench: Bench, data: Path) -> None:
    told = bench.told("looks-around", files=["/data/persons.csv", str(data / "persons.csv")], folders=["/data"])
    assert told["/data"] == "done []"
    assert told["/data/persons.csv"] == "ENOENT"
    assert told[str(data / "persons.csv")] == "ENOENT"


def test_it_writes_nowhere_but_in_scratch(bench: Bench, data: Path, tmp_path: Path) -> None:
    told = bench.told("writes-outside", data=data, folders=[str(tmp_path), sys.base_prefix])
    assert told.pop("data") == "done 'a,b\\n'"
    assert told.pop("scratch") == "done 1"
    assert told.pop("shared memory") == "done 1"
    assert told.pop("setuid file") in {"done None", *REFUSED}  # no_new_privs and nosuid make it worthless
    assert set(told.values()) <= {"EROFS", "ENOENT", *REFUSED}, told
    assert (data / "persons.csv").read_text() == "a,b\n"
    assert [path.name for path in data.iterdir()] == ["persons.csv"]


def test_scratch_is_private_to_one_run(bench: Bench, data: Path) -> None:
    bench.told("writes-outside", data=data, folders=[])
    assert bench.told("looks-around", files=["/tmp/mine"], folders=["/tmp"])["/tmp"] == "done []"


def test_it_fills_no_more_than_its_scratch(bench: Bench) -> None:
    size = 8 << 20
    told = bench.told("fills-scratch", limits={"scratch": size}, bytes=size)
    assert told["end"] == "ENOSPC"
    assert size * 0.9 < told["written"] <= size
    assert told["files"] == "ENOSPC"


# other processes, and what they know


def test_it_neither_sees_nor_hurts_other_processes(bench: Bench) -> None:
    guard = bench.runner._client._pid
    told = bench.told("attacks-processes", pids={"test": os.getpid(), "guard": guard, "keeper": 1})
    # signals to the first process of a pid namespace from within do nothing; the kernel does not call that an error
    assert told.pop("signal keeper") in {"done None", "EPERM"}
    assert told.pop("kill keeper") in {"done None", "EPERM"}
    told.pop("signal everybody")
    assert told.pop("keeper's environment") in {"done b''", *REFUSED}
    assert set(told.values()) <= {"ESRCH", *REFUSED | NOT_THERE}, told
    assert alive(os.getpid())
    assert alive(guard)


def test_it_inherits_nothing_of_the_agent(bench: Bench, tmp_path: Path) -> None:
    with (tmp_path / "open").open("w"):
        told = bench.told("reads-what-it-inherited", secret=SECRET[::-1])
    assert told["descriptors"] == [0, 1, 2, 3]  # the last one is for its error
    assert told["environment"] == [
        "DYNAMOS_ERROR", "DYNAMOS_INPUTS", "DYNAMOS_JOB", "DYNAMOS_OUTPUTS", "HOME", "LANG", "PATH", "TMPDIR", "TZ",
    ]  # fmt: skip
    assert told["initial environment"] in {"done ''", *REFUSED}
    assert told["secret in memory"] is False
    assert told["anything in memory"] == ""


# limits


def test_it_has_no_more_memory_than_allowed(bench: Bench) -> None:
    needs(bench, "memory")
    outcome = bench.attempt("eats-memory", limits={"memory": "64MiB"}, bytes=512 << 20)
    assert code(outcome) == "out-of-memory"
    assert outcome.usages[0].peak_bytes <= 64 << 20


def test_its_children_have_no_more_memory_together(bench: Bench) -> None:
    needs(bench, "memory")
    outcome = bench.attempt("eats-memory-in-children", limits={"memory": "64MiB"}, bytes=256 << 20)
    assert code(outcome) == "out-of-memory"


def test_it_makes_no_more_processes_than_allowed(bench: Bench) -> None:
    told = bench.told("bombs", limits={"processes": 16})
    assert told == {"made": 15, "end": "EAGAIN"}


def test_it_uses_no_more_cpu_time_than_allowed(bench: Bench) -> None:
    assert code(bench.attempt("spins", limits={"cpu": "1s"})) == "cpu-limit"


# ends


def test_what_is_refused_here_works_without_a_sandbox(data: Path, tmp_path: Path) -> None:
    """The attempts are real: a plain process does them. Only those that touch nothing but this test's own folder."""

    async def without() -> dict[str, Any]:
        runner = ProcessRunner.launch(on.PARTY, programs="support.runners")
        try:
            return await _told(runner, "looks-around", files=[str(data / "persons.csv")], folders=[str(tmp_path)])
        finally:
            await runner.close()

    with asyncio.Runner() as loop:
        looked = loop.run(without())
    assert looked[str(data / "persons.csv")] == "done 'a,b\\n'"
    assert looked[str(tmp_path)] == "done ['uva']"
    assert os.getpid() in looked["processes"]


async def _told(runner: Runner, name: str, *, data: Path | None = None, **given: Any) -> dict[str, Any]:
    piece = on.part([on.step(name)], [])
    work = on.assignment(piece, data={name: data} if data else {}, **{name.replace("-", "_"): given})
    outcome, _ = await on.finish(runner, work)
    assert outcome.error is not None
    return json.loads(outcome.error.message)


def test_processes_that_it_leaves_behind_end_with_it(bench: Bench) -> None:
    before = _processes_of(bench)
    assert bench.attempt("forks-daemons").error is None
    gone("daemons", lambda: _processes_of(bench) - before)


@pytest.mark.parametrize("name", ["stubborn", "forks-and-hangs", "stops-its-keeper"])
def test_it_does_not_outlive_its_deadline(bench: Bench, name: str) -> None:
    before = _processes_of(bench)
    assert code(bench.attempt(name, deadline=0.4)) in {"deadline", "start-failed", "lost"}
    gone("what outlived its deadline", lambda: _processes_of(bench) - before)


def test_no_mount_namespace_or_group_stays(bench: Bench, data: Path) -> None:
    for name in ("forks-daemons", "stubborn", "bombs", "crashes"):
        bench.attempt(name, deadline=0.5, data=data, signal="SIGSEGV", limits={"processes": 16})
    seen = leftovers()
    bench.attempt("forks-and-hangs", deadline=0.3, data=data)
    assert not [thing for thing in leftovers() - seen if thing.startswith("mount ")]
    gone("processes in control groups", lambda: _in_groups(seen))


def _in_groups(seen: frozenset[str]) -> list[str]:
    """Give the processes in control groups."""
    found = []
    for thing in seen:
        if thing.startswith("group "):
            with suppress(FileNotFoundError):
                found += Path(thing.removeprefix("group "), "cgroup.procs").read_text().split()
    return found


def needs(bench: Bench, measure: str) -> None:
    if measure not in bench.runner.isolation:
        pytest.skip(f"{measure} is not limited for a whole step on this machine")


def _processes_of(bench: Bench) -> set[str]:
    """Give processes of services: all below the zygote but its keepers."""
    below = _children_of(_children_of({bench.runner._client._pid}))
    services: set[int] = set()
    while below := _children_of(below):
        services |= below
    return {str(pid) for pid in services if alive(pid)}


def _children_of(pids: set[int]) -> set[int]:
    found: set[int] = set()
    for pid in pids:
        try:
            found |= {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
        except OSError:
            continue
    return found
