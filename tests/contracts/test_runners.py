"""What every runner does: the same cases over `inline`, `process`, `sandbox` and pods, local ones and a cluster's."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from dynamos.jobs.inline import InlineRunner
from dynamos.jobs.pods.manifests import COURIER
from dynamos.jobs.pods.runner import KubernetesRunner
from dynamos.jobs.probes import sandbox_missing
from dynamos.jobs.runners import Runner
from dynamos.jobs.sandbox import ProcessRunner, SandboxRunner
from dynamos.jobs.specs import Settings
from dynamos.kit.errors import Cancelled, NotFound
from dynamos.model.services import Limits
from support import runners as on
from support.machine import count_by_kind, gone, leftovers, namespaces_held
from support.pods import LocalPods, courier_program, local_runner

if TYPE_CHECKING:
    from support.cluster_pods import PodsInCluster

T = TypeVar("T")
PROGRAMS = "support.runners"
SANDBOX = pytest.param("sandbox", marks=pytest.mark.sandbox)
PODS = ("pods", "kubernetes")
LOCAL_PODS = pytest.param("pods", marks=pytest.mark.e2e)
KUBERNETES = pytest.param("kubernetes", marks=[pytest.mark.cluster, pytest.mark.xdist_group("cluster")])


class Bench:
    """A runner and the event loop that it lives in, over all cases of a module."""

    def __init__(self, kind: str, party: PodsInCluster | None = None) -> None:
        self.kind = kind
        self._cluster = party
        self._loop = asyncio.Runner()
        # A cluster's pods are reached by a thread that is in its network, and by those that it starts.
        self._thread = ThreadPoolExecutor(1, initializer=party.enter) if party else None
        self.runner: Runner = self.run(self._make())

    async def _make(self) -> Runner:
        if self.kind == "inline":
            return InlineRunner(PROGRAMS)
        if self._cluster is not None:
            return await self._cluster.runner()
        if self.kind == "pods":
            return await local_runner()
        make = SandboxRunner if self.kind == "sandbox" else ProcessRunner
        return make.launch(on.PARTY, required=True, programs=PROGRAMS)

    def run(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(180 if self._cluster else 30):
                return await work

        if self._thread is not None:
            return self._thread.submit(lambda: self._loop.run(bounded())).result()
        return self._loop.run(bounded())

    def finish(self, *arguments: Any) -> Any:
        return self.run(on.finish(self.runner, *arguments))

    def needs_processes(self) -> None:
        if self.kind == "inline":
            pytest.skip("a thread cannot be ended from outside, and shares the fate of its process")

    @property
    def patience(self) -> float:
        """For how many seconds a dozen parts at once may run: pods are started by a kubelet, a few at a time."""
        return 150.0 if self._cluster else 20.0

    def volume(self, folder: Path) -> Path:
        """Give a folder for a party's data that the runner can show to services."""
        return self._cluster.volume if self._cluster else folder

    def shell(self, script: str) -> tuple[str, ...]:
        """Give the command that runs a script."""
        return (
            ("/bin/busybox", "sh", "-c", script.replace("cat", "busybox cat"))
            if self._cluster
            else ("sh", "-c", script)
        )

    @property
    def shell_image(self) -> str:
        """The image that has a shell, where programs come in images."""
        return self._cluster.shell_image if self._cluster else ""

    def needs_this_machine(self) -> None:
        if self.kind == "kubernetes":
            pytest.skip("programs come in images there, and what is left over is not on this machine")

    @property
    def quiet(self) -> dict[str, int]:
        """What there is between jobs, this process included."""
        if self.kind in PODS:
            return {"process": 1, "namespace": 0}
        # guard and zygote, keepers that wait; two namespaces for the zygote and five for each keeper
        spare = Settings(on.PARTY).spare
        return {"process": 1 + 2 + spare, "namespace": 2 + 5 * spare if self.kind == "sandbox" else 0}

    def things(self) -> Counter[str]:
        """Count what is there now, after a turn of the loop."""
        self.run(asyncio.sleep(0.01))
        return count_by_kind(leftovers())

    def lose(self) -> None:
        """Have what runs the services end, as a defect or a kernel without memory does."""
        if self._cluster is not None:
            self._cluster.lose()
        elif isinstance(self.runner, KubernetesRunner):
            pods = self.runner._pods
            assert isinstance(pods, LocalPods)
            pods.kill(pods.made[-1], COURIER)
        else:
            self.runner._client.end()  # type: ignore[attr-defined]

    def close(self) -> None:
        self.run(self.runner.close())
        if self._thread is not None:
            self._thread.submit(self._loop.close).result()
            self._thread.shutdown()
        self._loop.close()


@pytest.fixture(scope="module", params=["inline", "process", SANDBOX, LOCAL_PODS, KUBERNETES])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "sandbox" and (missing := sandbox_missing()):
        pytest.skip(missing)
    if request.param == "pods":
        courier_program()
    with ExitStack() as stack:
        party = stack.enter_context(_party(request)) if request.param == "kubernetes" else None
        found = Bench(request.param, party)
        yield found
        found.close()


def _party(request: pytest.FixtureRequest) -> AbstractContextManager[PodsInCluster]:
    from support.cluster_pods import party_in  # noqa: PLC0415  what needs no cluster imports nothing of it

    made = request.getfixturevalue("tmp_path_factory").mktemp("images")
    return party_in(request.getfixturevalue("cluster"), made)


def test_a_chain_of_three_gives_its_result(bench: Bench) -> None:
    outcome, results = bench.finish(on.assignment(on.chain("numbers", "double", "total"), numbers={"rows": 25_000}))
    assert outcome.error is None
    assert on.rows(results["total-out"]) == [2 * sum(range(25_000))]


def test_every_step_has_a_usage_record(bench: Bench) -> None:
    outcome, _ = bench.finish(on.assignment(on.chain("numbers", "total")))
    assert [(u.step, u.party, u.service, u.exit) for u in outcome.usages] == [
        ("numbers", "UVA", "numbers", 0),
        ("total", "UVA", "total", 0),
    ]
    for usage in outcome.usages:
        assert usage.started is not None
        assert usage.start_ms > 0
        assert usage.wall_ms > 0
        assert set(usage.isolation) <= set(bench.runner.isolation)
        if bench.kind != "inline":
            assert usage.cpu_ms > 0
            assert usage.peak_bytes > 0


def test_streams_from_outside_and_inside_meet_in_one_step(bench: Bench) -> None:
    piece = on.part(
        [on.step("numbers"), on.step("total")],
        [("numbers", "total"), ("total", "")],
        reads={"from-vu": "total", "from-rug": "total"},
    )
    given = {"from-vu": on.stream([100, 200]), "from-rug": on.stream([1000])}
    outcome, results = bench.finish(on.assignment(piece), given)
    assert outcome.error is None
    assert on.rows(results["total-out"]) == [1300 + sum(range(10))]


def test_one_step_may_feed_two(bench: Bench) -> None:
    piece = on.part(
        [on.step("numbers"), on.step("double"), on.step("total")],
        [("numbers", "double"), ("numbers", "total"), ("double", ""), ("total", "")],
    )
    outcome, results = bench.finish(on.assignment(piece, numbers={"rows": 4}))
    assert outcome.error is None
    assert on.rows(results["double-out"]) == [0, 2, 4, 6]
    assert on.rows(results["total-out"]) == [6]


def test_a_service_is_told_what_the_contract_says(bench: Bench) -> None:
    outcome, _ = bench.finish(on.assignment(on.chain("tells"), tells={"width": 3}))
    assert outcome.error is not None
    told = json.loads(outcome.error.message)
    assert {"DYNAMOS_JOB", "DYNAMOS_INPUTS", "DYNAMOS_OUTPUTS", "DYNAMOS_ERROR"} <= set(told["names"])
    assert told["job"] == {
        "job": "job-1",
        "party": "UVA",
        "service": "tells",
        "step": "tells",
        "options": {"width": 3},
        "deadline": 20.0,
        "provider": None,
        "trace": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    }


def test_only_steps_with_data_see_data(bench: Bench, tmp_path: Path) -> None:
    tmp_path = bench.volume(tmp_path)
    (tmp_path / "persons.csv").write_text("a,b\n")
    tmp_path.chmod(0o700)
    work = on.assignment(on.chain("lists-data"), data={"lists-data": tmp_path})
    outcome, _ = bench.finish(work)
    assert outcome.error is not None
    assert json.loads(outcome.error.message) == {"persons.csv": "a,b\n"}
    outcome, _ = bench.finish(on.assignment(on.chain("lists-data")))
    assert outcome.error is not None
    assert outcome.error.message == "null"


def test_an_error_comes_with_code_place_and_hint(bench: Bench) -> None:
    outcome, _ = bench.finish(on.assignment(on.chain("numbers", "fails", "waits"), numbers={"rows": 1_000_000}))
    assert outcome.error is not None
    facts = outcome.error.as_dict()
    if bench.kind != "inline":
        assert facts.pop("log") == "it cannot be done"
    assert facts == {
        "code": "no-such-column",
        "message": "there is no column 'x'",
        "where": "UVA/fails",
        "hint": "did you mean 'n'?",
        "exit": 3,
    }


@pytest.mark.parametrize("code", [1, 7, 255])
def test_an_exit_code_without_words_is_an_error(bench: Bench, code: int) -> None:
    outcome, _ = bench.finish(on.assignment(on.chain("exits"), exits={"code": code}))
    assert outcome.error is not None
    assert outcome.error.as_dict()["code"] == "service-failed"
    assert outcome.error.facts["exit"] == code
    assert outcome.usages[0].exit == code


def test_an_exception_is_an_error_and_its_trace_goes_to_the_log(bench: Bench) -> None:
    outcome, _ = bench.finish(on.assignment(on.chain("raises")))
    assert outcome.error is not None
    assert outcome.error.message == "the service broke: ValueError"
    if bench.kind != "inline":
        assert "ValueError: a defect" in outcome.error.facts["log"]


def test_rubbish_is_blamed_by_who_reads_it(bench: Bench) -> None:
    outcome, _ = bench.finish(on.assignment(on.chain("rubbish", "reads-strictly")))
    assert outcome.error is not None
    assert outcome.error.as_dict()["code"] == "input-broken"
    assert outcome.error.where == "UVA/reads-strictly"


def test_who_broke_the_chain_is_blamed_not_who_lost_its_input(bench: Bench) -> None:
    outcome, _ = bench.finish(on.assignment(on.chain("exits", "reads-strictly"), exits={"code": 9}))
    assert outcome.error is not None
    assert outcome.error.where == "UVA/exits"


def test_an_error_that_is_no_json_is_still_an_error(bench: Bench) -> None:
    bench.needs_processes()
    outcome, _ = bench.finish(on.assignment(on.chain("speaks-rubbish")))
    assert outcome.error is not None
    assert outcome.error.as_dict()["code"] == "service-failed"


def test_an_unknown_service_is_an_error_and_closes_every_descriptor(bench: Bench) -> None:
    work = on.assignment(on.chain("numbers"))
    reading, writing = os.pipe()
    unknown = on.Assignment(part=work.part, services={})
    with pytest.raises(NotFound):
        bench.run(bench.runner.start(unknown, {}, {"numbers-out": writing}))
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_service_that_is_not_installed_is_told(bench: Bench) -> None:
    outcome, _ = bench.finish(on.assignment(on.chain("no-such-service")))
    assert outcome.error is not None
    assert outcome.error.as_dict()["code"] == "start-failed"


def test_a_big_stream_passes_with_little_memory(bench: Bench) -> None:
    size = 256 << 20
    limits = Limits.model_validate({"memory": "96MiB"})
    outcome, results = bench.finish(on.assignment(on.chain("zeros", "count"), limits=limits, zeros={"bytes": size}))
    assert outcome.error is None
    assert on.rows(results["count-out"]) == [size // 8]


def test_a_slow_reader_holds_the_writer_up(bench: Bench) -> None:
    bench.needs_processes()

    async def held_up() -> tuple[int, bool]:
        reading, writing = os.pipe()
        running = await bench.runner.start(
            on.assignment(on.chain("zeros"), zeros={"bytes": 64 << 20}), {}, {"zeros-out": writing}
        )
        await asyncio.to_thread(select.select, [reading], [], [], 10)
        ended = asyncio.ensure_future(running.wait())
        still_at_work = not ended.done()
        taken = await asyncio.to_thread(on._drain, reading)
        outcome = await ended
        assert outcome.error is None
        return len(taken), still_at_work

    taken, still_at_work = bench.run(held_up())
    assert still_at_work
    assert taken > 64 << 20


# commands in any language


def test_a_command_gets_the_same_contract(bench: Bench) -> None:
    script = 'cat <&${DYNAMOS_INPUTS##*=} >&${DYNAMOS_OUTPUTS##*=}; echo "copied" >&2'
    command, images = bench.shell(script), {"copy": bench.shell_image}
    work = on.assignment(on.chain("numbers", "copy", "total"), commands={"copy": command}, images=images)
    outcome, results = bench.finish(work)
    assert outcome.error is None
    assert on.rows(results["total-out"]) == [45]


def test_a_program_in_a_folder_of_its_own_runs(bench: Bench, tmp_path: Path) -> None:
    bench.needs_this_machine()
    tmp_path.chmod(0o755)
    tool = tmp_path / "tool"
    tool.write_text('#!/bin/sh\nread word < "$1"\necho "{\\"code\\": \\"$word\\"}" >&$DYNAMOS_ERROR\nexit 4\n')
    tool.chmod(0o755)
    (tmp_path / "words").write_text("from-its-folder\n")
    work = on.assignment(on.chain("tool"), commands={"tool": (str(tool), str(tmp_path / "words"))})
    outcome, _ = bench.finish(work)
    assert outcome.error is not None
    assert outcome.error.as_dict()["code"] == "from-its-folder"


def test_a_command_that_is_not_there_is_told(bench: Bench) -> None:
    outcome, _ = bench.finish(on.assignment(on.chain("tool"), commands={"tool": ("no-such-program",)}))
    assert outcome.error is not None
    assert outcome.error.as_dict()["code"] == "start-failed"
    assert "no-such-program" in outcome.error.facts["log"]


# ends that are not its own


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGTERM"])
def test_a_crash_is_told_with_its_signal(bench: Bench, name: str) -> None:
    bench.needs_processes()
    outcome, _ = bench.finish(on.assignment(on.chain("crashes", "waits"), crashes={"signal": name}))
    assert outcome.error is not None
    assert outcome.error.as_dict()["code"] == "crashed"
    assert outcome.error.where == "UVA/crashes"
    assert outcome.error.facts["signal"] == name
    assert outcome.usages[0].exit == -getattr(signal, name)


def test_a_defect_in_native_code_is_a_crash(bench: Bench) -> None:
    bench.needs_processes()
    outcome, _ = bench.finish(on.assignment(on.chain("reads-nowhere")))
    assert outcome.error is not None
    assert outcome.error.facts["signal"] == "SIGSEGV"


def test_the_deadline_ends_what_ignores_every_signal(bench: Bench) -> None:
    outcome, _ = bench.run(_start_and_wait(bench, on.assignment(on.chain("stubborn"), deadline=0.3)))
    assert outcome.error is not None
    assert outcome.error.as_dict()["code"] == "deadline"


def test_kill_ends_every_step_and_gives_the_error(bench: Bench) -> None:
    async def killed() -> Any:
        reading, writing = os.pipe()
        running = await bench.runner.start(on.assignment(on.chain("stubborn", "waits")), {}, {"waits-out": writing})
        await running.kill(Cancelled("the user went away"))
        outcome = await running.wait()
        await running.kill(Cancelled("once more"))
        os.close(reading)
        return outcome

    outcome = bench.run(killed())
    assert isinstance(outcome.error, Cancelled)
    assert outcome.error.message == "the user went away"


def test_what_is_printed_is_kept_at_its_end_and_blocks_nobody(bench: Bench) -> None:
    bench.needs_processes()
    outcome, _ = bench.finish(on.assignment(on.chain("talks"), talks={"code": 1}))
    assert outcome.error is not None
    log = outcome.error.facts["log"]
    assert log.endswith("xthe last line")
    assert len(log) <= 4096


def test_many_parts_at_once(bench: Bench) -> None:
    async def all_of_them() -> list[list[int]]:
        piece = on.chain("numbers", "total")
        works = [on.assignment(piece, deadline=bench.patience, numbers={"rows": n}) for n in range(12)]
        done = await asyncio.gather(*(on.finish(bench.runner, work) for work in works))
        return [on.rows(results["total-out"]) for _, results in done]

    assert bench.run(all_of_them()) == [[sum(range(n))] for n in range(12)]


def test_nothing_is_left_over(bench: Bench) -> None:
    bench.needs_processes()
    bench.needs_this_machine()
    for work in (
        on.assignment(on.chain("numbers", "double", "total")),
        on.assignment(on.chain("numbers", "fails", "waits")),
        on.assignment(on.chain("stubborn"), deadline=0.2),
    ):
        bench.run(_start_and_wait(bench, work))
    gone("missing keepers", lambda: bench.quiet.items() - bench.things().items() - {("namespace", 0)})
    before = count_by_kind(leftovers())
    for _ in range(5):
        bench.finish(on.assignment(on.chain("numbers", "double", "total")))
        bench.finish(on.assignment(on.chain("numbers", "fails", "waits")))
    gone("more things than before", lambda: bench.things() - before)


# the runner itself


def test_what_runs_the_services_is_told_when_it_is_lost_and_replaced(bench: Bench) -> None:
    bench.needs_processes()

    async def killed() -> tuple[Any, Any]:
        reading, writing = os.pipe()
        running = await bench.runner.start(on.assignment(on.chain("stubborn", "says-so")), {}, {"says-so-out": writing})
        assert await asyncio.to_thread(os.read, reading, 1)
        bench.lose()
        outcome = await running.wait()
        os.close(reading)
        return outcome, await on.finish(bench.runner, on.assignment(on.chain("numbers", "total")))

    lost, (after, results) = bench.run(killed())
    assert lost.error.as_dict()["code"] == "runner-lost"
    assert after.error is None
    assert on.rows(results["total-out"]) == [45]


AGENT = """
import asyncio, os, sys
from dynamos.jobs import sandbox
from support import pods, runners as on

async def main(kind):
    if kind == "pods":
        runner = await pods.local_runner()
    else:
        make = sandbox.SandboxRunner if kind == "sandbox" else sandbox.ProcessRunner
        runner = make.launch("UVA", required=True, programs="support.runners")
    reading, writing = os.pipe()
    work = on.assignment(on.chain("stubborn", "says-so"), deadline=3600)
    await runner.start(work, {}, {"says-so-out": writing})
    await asyncio.to_thread(os.read, reading, 1)
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""


def test_when_the_agent_is_killed_everything_goes(bench: Bench) -> None:
    bench.needs_processes()
    bench.needs_this_machine()
    with subprocess.Popen(
        [sys.executable, "-c", AGENT, bench.kind],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"started\n"
        family = leftovers(root=agent.pid)
        assert len(family) > 3
        with namespaces_held(agent.pid):
            agent.kill()
            gone("processes and control groups of a killed agent", lambda: leftovers(of=family))


async def _start_and_wait(bench: Bench, work: Any) -> Any:
    """Run a part whose streams nobody reads."""
    ends = {edge.name: os.pipe() for edge in work.part.outgoing}
    running = await bench.runner.start(work, {}, {name: writing for name, (_, writing) in ends.items()})
    outcome = await running.wait()
    for reading, _ in ends.values():
        os.close(reading)
    return outcome, {}
