import os
import signal
import sys
from pathlib import Path

import pytest

from dynamos.deploy.processes import Patience
from dynamos.deploy.states import Phase
from dynamos.kit.errors import BadInput, TimedOut, Unavailable
from support.children import HASTE, Loop, alive, ends, says_ready, unit

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_a_unit_is_ready_when_it_says_so_and_tells_its_address(tmp_path):
    with Loop(unit("api", says_ready("http://127.0.0.1:1"), tmp_path)) as loop:
        loop.until(lambda: loop.processes.ready)
        status = loop.status("api")
        assert (status.phase, status.address, status.restarts) == (Phase.READY, "http://127.0.0.1:1", 0)
        assert alive(status.pid)
        assert status.born is not None


def test_what_comes_after_starts_only_when_what_is_before_is_ready(tmp_path):
    order = tmp_path / "order"

    def noted(name, **more):
        def main(tell):
            with order.open("a") as file:
                file.write(f"{name}\n")
            return says_ready()(tell) if not more.get("task") else 0

        return unit(name, main, tmp_path, **more)

    with Loop(noted("last", after=("task",)), noted("task", after=("first",), task=True), noted("first")) as loop:
        loop.until(lambda: loop.processes.ready)
        assert order.read_text().split() == ["first", "task", "last"]
        assert {status.name for status in loop.processes.statuses} == {"first", "last"}


def test_what_comes_after_something_outside_waits_for_it(tmp_path):
    with Loop(unit("agent", says_ready(), tmp_path, after=("imports",))) as loop:
        loop.processes.step(within=0)
        assert loop.status("agent").phase == Phase.WAITING
        loop.processes.satisfy("imports")
        loop.until(lambda: loop.processes.ready)


def test_a_program_that_cannot_say_so_is_ready_when_its_probe_answers(tmp_path):
    answers = iter([None, None, "nats://x"])
    bus = unit("bus", lambda _tell: signal.pause(), tmp_path, probe=lambda: next(answers))
    with Loop(bus) as loop:
        loop.until(lambda: loop.processes.ready)
        assert loop.processes.address("bus") == "nats://x"


def test_a_unit_that_is_killed_is_started_again(tmp_path):
    with Loop(unit("agent", says_ready(), tmp_path)) as loop:
        loop.until(lambda: loop.processes.ready)
        first = loop.status("agent").pid
        os.kill(first, signal.SIGKILL)
        loop.until(lambda: loop.status("agent").restarts == 1 and loop.status("agent").phase == Phase.READY)
        assert loop.status("agent").pid != first
        assert loop.processes.failure is None


def test_a_unit_that_cannot_start_ends_the_whole_after_a_few_tries_with_the_end_of_its_log(tmp_path):
    with Loop(unit("agent", ends(1), tmp_path)) as loop:
        loop.until(lambda: loop.processes.failure)
        failure = loop.processes.failure
        assert isinstance(failure, Unavailable)
        assert "agent ended with exit code 1" in str(failure)
        assert failure.facts["log"][-1] == "the last words"
        assert (tmp_path / "agent.log").read_text().count("the last words") == HASTE.tries


def test_an_error_that_a_person_must_mend_is_not_tried_again_and_keeps_its_words(tmp_path):
    said = {"code": "bad-input", "message": "no such file", "where": "data/x.csv", "hint": "look there"}
    with Loop(unit("agent", ends(2, said=said), tmp_path)) as loop:
        loop.until(lambda: loop.processes.failure)
        failure = loop.processes.failure
        assert isinstance(failure, BadInput)
        assert (failure.message, failure.where, failure.hint) == ("no such file", "data/x.csv", "look there")
        assert (tmp_path / "agent.log").read_text().count("the last words") == 1


def test_a_task_that_fails_ends_the_whole(tmp_path):
    with Loop(
        unit("data", ends(3), tmp_path, task=True), unit("agent", says_ready(), tmp_path, after=("data",))
    ) as loop:
        loop.until(lambda: loop.processes.failure)
        assert loop.status("agent").phase == Phase.WAITING


def test_a_unit_that_never_is_ready_is_killed_at_the_bound(tmp_path):
    hangs = unit("agent", lambda _tell: signal.pause(), tmp_path)
    with Loop(hangs, patience=Patience(ready=0.05, tries=1)) as loop:
        loop.until(lambda: loop.processes.failure)
        assert isinstance(loop.processes.failure, TimedOut)
        assert "agent was not ready within 0.05 s" in str(loop.processes.failure)
        assert not loop.processes.running


def test_stop_asks_those_that_come_after_others_first_and_kills_the_deaf(tmp_path):
    ended = tmp_path / "ended"

    def polite(name):
        def note(*_):
            with ended.open("a") as file:
                file.write(f"{name}\n")
            sys.exit(0)

        def main(tell):
            signal.signal(signal.SIGTERM, note)
            return says_ready()(tell)

        return main

    def deaf(tell):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return says_ready(then=lambda: [signal.pause() for _ in range(99)])(tell)

    with Loop(
        unit("bus", polite("bus"), tmp_path),
        unit("agent", deaf, tmp_path, after=("bus",)),
        unit("api", polite("api"), tmp_path, after=("agent",)),
    ) as loop:
        loop.until(lambda: loop.processes.ready)
        pids = [status.pid for status in loop.processes.statuses]
        loop.processes.stop()
        assert ended.read_text().split() == ["api", "bus"]
        assert {status.phase for status in loop.processes.statuses} == {Phase.STOPPED}
        assert not any(alive(pid) for pid in pids)


def test_what_a_unit_leaves_in_its_group_ends_with_it(tmp_path):
    left = tmp_path / "left"

    def leaves(tell):
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        left.write_text(str(pid))
        return says_ready(then=lambda: os._exit(1))(tell)

    with Loop(unit("agent", leaves, tmp_path), patience=Patience(tries=1, back_off=60, longest_back_off=60)) as loop:
        loop.until(lambda: loop.status("agent").phase == Phase.RESTARTING)
        # the group has been sent SIGKILL; its last member is init's or the subreaper's to take
        loop.until(lambda: not alive(int(left.read_text())))


def test_a_child_has_no_descriptor_but_its_own(tmp_path):
    secret = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(secret, True)
    found = tmp_path / "found"

    def main(tell):
        held = {path.name: path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
        own = os.getsid(0) == os.getpid()
        found.write_text(f"{sorted(held)} {held['0']} {held['1'] == held['2']} {tell} {own}")
        return says_ready()(tell)

    with Loop(unit("agent", main, tmp_path)) as loop:
        loop.until(lambda: loop.processes.ready)
        assert found.read_text() == "['0', '1', '2', '3'] /dev/null True 3 True"
    os.close(secret)


@pytest.mark.parametrize(("failures", "pause"), [(1, 0.1), (2, 0.2), (5, 1.6), (50, 10.0)])
def test_the_pause_before_another_start_doubles_and_is_bounded(failures, pause):
    assert Patience().pause(failures) == pytest.approx(pause)
