"""With the real engine: a profile is provisioned, changed in place, mended, and gone; killed anywhere, it goes on."""

import json
import subprocess
import threading
import time
from pathlib import Path

import pytest

from dynamos.deploy.pulumi.stacks import Stack
from dynamos.kit.errors import Conflict, JobFailed, Mistakes, NotFound
from dynamos.testbed.locks import locked
from dynamos.testbed.plans import plan
from support.pulumi_stacks import provisioned
from support.worlds import Held, machine_state

pytestmark = [pytest.mark.e2e, pytest.mark.testbed, pytest.mark.xdist_group("testbed")]
WRONG = "name: e2e-wrong\nmarketplace: aviation\ndriver: namespaces\nsites:\n  a: {partys: [x]}\n"


def test_a_testbed_is_made_changed_in_place_mended_and_gone(tmp_path, record_property):
    before = machine_state()
    with provisioned(tmp_path, "e2e-life") as made:
        began = time.monotonic()
        assert made.stack.up().counts.keys() == {"create"}
        record_property("up_seconds", round(time.monotonic() - began, 1))
        assert plan(made.wanted, made.look()) == ()
        assert not made.stack.preview().changed
        assert made.round_trip("amsterdam-1", "tokyo-1") == pytest.approx(230, rel=0.05)

        made.write(delay=("delay: 115ms", "delay: 30ms"))
        shown = made.stack.preview()
        assert [str(step) for step in shown.steps] == [
            "update link amsterdam-tokyo: backward.delay 115ms → 30ms, forward.delay 115ms → 30ms"
        ]
        assert made.round_trip("amsterdam-1", "tokyo-1") == pytest.approx(230, rel=0.05)
        assert made.stack.up().counts["update"] == 1
        assert made.round_trip("amsterdam-1", "tokyo-1") == pytest.approx(60, rel=0.1)

        made.world.find_node("tokyo-1").destroy()
        assert made.stack.refresh().counts["delete"] == 3
        mended = {str(step).partition(":")[0] for step in made.stack.up().steps}
        assert mended >= {"create node tokyo-1", "create container jetblue", "update overlay market"}
        assert not {name for name in mended if "ground" in name or "link" in name}
        assert plan(made.wanted, made.look()) == ()

        made.world.kill()
        assert made.stack.refresh().counts["delete"] == 21
        made.stack.up()
        assert plan(made.wanted, made.look()) == ()

        with Held(made.world, *made.world.nodes()) as held:
            assert made.stack.destroy().counts.keys() == {"delete"}
            assert held.inhabitants() == []
        assert not made.look().items
        with pytest.raises(NotFound):
            made.stack.outputs()
    assert machine_state() == before


@pytest.mark.parametrize("steps", [1, 5, 9, 14, 20])
def test_an_engine_that_was_killed_anywhere_is_gone_on_from(tmp_path, steps):
    with provisioned(tmp_path, f"e2e-killed-{steps}") as made:
        made.kill_engine_after(steps)
        made.stack.up()
        assert plan(made.wanted, made.look()) == ()
        assert not made.stack.preview().changed


def test_what_a_stack_tells_is_how_its_nodes_are_reached_and_no_secret_is_in_its_state(tmp_path):
    with provisioned(tmp_path, "e2e-outputs") as made:
        told = made.stack.up().outputs
        assert told == made.stack.outputs()
        assert set(told["sites"]) == {"amsterdam", "los-angeles", "tokyo"}
        words = ["ssh", "-F", told["sshConfig"], "tokyo", "hostname"]
        assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "tokyo-1\n"
        hosts = json.loads(Path(told["inventory"]).read_text())["all"]["hosts"]
        assert set(hosts) == {"amsterdam-1", "los-angeles-1", "tokyo-1"}
        state = "".join(path.read_text() for path in (made.state / "stacks" / ".pulumi").rglob("*.json"))
        assert "amsterdam-tokyo" in state
        assert "PRIVATE KEY" not in state
        assert (made.state / "stacks" / "passphrase").read_text() not in state


def test_mistakes_are_told_with_their_lines_and_nothing_is_made(tmp_path):
    with provisioned(tmp_path, "e2e-wrong") as made:
        made.profile.write_text(WRONG)
        with pytest.raises(Mistakes, match=r"wrong\.yaml:5:"):
            made.stack.preview()
        assert not made.look().items


def test_a_changed_driver_is_refused_with_what_to_do_and_what_there_is_stays(tmp_path):
    with provisioned(tmp_path, "e2e-driver") as made:
        made.stack.up()
        where = "nodes: {%s-1: {address: 192.0.2.1}}\n    parties"
        made.write(
            driver=("driver: namespaces", "driver: ssh"),
            **{site: (f"{site}:\n    parties", f"{site}:\n    " + where % site)
               for site in ("amsterdam", "los-angeles", "tokyo")},
        )  # fmt: skip
        with pytest.raises(JobFailed, match="pulumi destroy"):
            made.stack.preview()
        assert made.world.alive


def test_two_do_not_work_on_one_stack_at_once(tmp_path):
    with provisioned(tmp_path, "e2e-both") as made:
        inside, leave = threading.Event(), threading.Event()

        def hold():
            with locked(made.stack.folder / "locks" / made.name, within=5):
                inside.set()
                leave.wait(60)

        holder = threading.Thread(target=hold)
        holder.start()
        inside.wait(10)
        try:
            with pytest.raises(Conflict, match="somebody works on the stack"):
                Stack(str(made.profile), made.state).up()
        finally:
            leave.set()
            holder.join()
