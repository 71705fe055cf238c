"""With the real engine: a profile is provisioned, changed in place, mended, and gone; killed anywhere, it goes on."""

import json
import os
import random
import re
import shutil
import subprocess
import textwrap
import threading
import time
from pathlib import Path

import pytest

from dynamos.deploy.inventories import from_outputs
from dynamos.deploy.pulumi.engines import checkout
from dynamos.deploy.pulumi.stacks import Stack
from dynamos.kit.errors import Conflict, JobFailed, Mistakes, NotFound
from dynamos.testbed.locks import locked
from dynamos.testbed.plans import plan
from dynamos.testbed.worlds import World
from support.pulumi_stacks import TWO_SITES, Machine, provisioned
from support.soaks import soaking
from support.worlds import Held, machine_state, needs

pytestmark = [pytest.mark.e2e, pytest.mark.testbed, pytest.mark.xdist_group("testbed")]
WRONG = "name: e2e-wrong\nmarketplace: aviation\ndriver: namespaces\nsites:\n  a: {partys: [x]}\ncontrol: [b]\n"

KILLED = ("make", "change", "mend", "make", "change", "mend", "make", "mend", "make", "mend")
"""What an engine is at as it is killed, from its first moments to its last."""


def on_machines(where):
    """Changes of the profile of three sites: its nodes are machines that exist, all of them at one address."""
    sites = ("amsterdam", "los-angeles", "tokyo")
    nodes = {site: (f"{site}:\n", f"{site}:\n    nodes: {{{site}-1: {{address: {where}}}}}\n") for site in sites}
    return {"driver": ("driver: namespaces", "driver: ssh"), **nodes}


def test_a_testbed_is_made_changed_in_place_mended_and_gone(tmp_path, record_property):
    before = machine_state()
    with provisioned(tmp_path, "e2e-life") as made:
        began = time.monotonic()
        assert made.stack.up().counts.keys() == {"create"}
        took = time.monotonic() - began
        record_property("figure three-sites: pulumi up", f"{took:.1f} s")
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


@pytest.mark.parametrize("times", [3, soaking(10)])
def test_an_engine_that_was_killed_at_any_moment_is_gone_on_from(tmp_path, record_property, times):
    """At random moments over all of it: as everything is made, a link changed, a world mended."""
    with provisioned(tmp_path, "e2e-killed", TWO_SITES) as made:
        made.stack._open(made.name, new=True)
        began, killed = time.monotonic(), []
        made.pulumi("up", "--yes", "--skip-preview")
        lasts = time.monotonic() - began
        for turn, what in random.sample([*enumerate(KILLED)], times):
            words = []
            if what == "make":
                made.forget()
            elif what == "change":
                made.write(delay=("delay: 10ms", f"delay: {20 + turn}ms"))
            else:
                made.world.kill()
                words = ["--refresh"]
            moment = (turn + random.random()) / 10 * lasts
            while not made.killed_up(moment, *words):
                moment /= 2  # it had ended: there is less to do than at first
            killed.append(f"{what} {moment:.2f} s")
            record_property("killed", killed)
            if words:
                made.pulumi("cancel", "--yes")
                made.pulumi("refresh", "--yes", "--skip-preview", "--clear-pending-creates")
                told = made.pulumi("up", "--yes", "--skip-preview").stdout
            else:
                told = str(made.stack.up())
            assert plan(made.wanted, made.look()) == (), (killed, told)
            assert made.known() == {tuple(key): item.as_json() for key, item in made.wanted.items.items()}, killed
        assert len(killed) == times
        assert not made.stack.preview().changed

        shutil.rmtree(made.stack.folder / ".pulumi")  # as if it was killed before it noted that there is a world
        made.stack._open(made.name, new=True)
        made.stack.destroy()
        assert World.find(made.state / made.name / "world") is None


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """A stack of three sites that is up; who changes its profile puts it back."""
    with provisioned(tmp_path_factory.mktemp("standing"), "e2e-standing") as made:
        made.stack.up()
        yield made


def test_what_a_stack_tells_is_how_its_nodes_are_reached_and_no_secret_is_in_its_state(standing):
    told = standing.stack.outputs()
    assert set(told) == {"driver", "sites", "addresses", "overlays", "sshConfig", "inventory", "api"}
    assert set(told["sites"]) == {"amsterdam", "los-angeles", "tokyo"}
    words = ["ssh", "-F", told["sshConfig"], "tokyo", "hostname"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "tokyo-1\n"
    hosts = json.loads(Path(told["inventory"]).read_text())["all"]["hosts"]
    assert set(hosts) == set(told["addresses"]) == {"amsterdam-1", "los-angeles-1", "tokyo-1"}
    ways = ["ansible", "all", "-i", told["inventory"], "-m", "raw", "-a", "hostname", "--one-line"]
    # No connections that are kept: their sockets would have names that are too long.
    alone = {"ANSIBLE_SSH_ARGS": "-o ControlMaster=no", "ANSIBLE_NOCOLOR": "1"}
    env = {**os.environ, "HOME": str(standing.state), **alone}
    program = checkout() / ".venv" / "bin" / "ansible"
    said = subprocess.run(
        ways, executable=program, env=env, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert all(f"(stdout) {node}" in said for node in hosts), said
    (standing.state / "outputs.json").write_text(json.dumps(told))
    found = from_outputs(standing.state / "outputs.json", standing.profile, standing.state)
    assert set(found.hosts) == set(hosts)
    state = "".join(path.read_text() for path in (standing.state / "stacks" / ".pulumi").rglob("*.json"))
    assert "amsterdam-tokyo" in state
    assert "PRIVATE KEY" not in state
    assert (standing.state / "stacks" / "passphrase").read_text() not in state


def test_a_changed_driver_is_refused_with_what_to_do_and_what_there_is_stays(standing):
    standing.write(**on_machines("192.0.2.1"))
    try:
        with pytest.raises(JobFailed, match="pulumi destroy"):
            standing.stack.preview()
    finally:
        standing.write()
    assert plan(standing.wanted, standing.look()) == ()


def test_all_mistakes_are_in_the_preview_with_lines_and_hints_and_nothing_is_made(tmp_path):
    with provisioned(tmp_path, "e2e-wrong") as made:
        made.stack._open(made.name, new=True)
        made.profile.write_text(WRONG)
        told = made.pulumi("preview")
        assert told.returncode != 0
        assert "wrong.yaml:5:" in told.stdout
        assert "did you mean 'parties'?" in told.stdout
        assert "wrong.yaml:6:" in told.stdout
        with pytest.raises(Mistakes, match=r"wrong\.yaml:5:"):
            made.stack.preview()
        assert not made.look().items
        assert not made.known()


def test_the_commands_of_the_page_provision_a_testbed(tmp_path):
    """In a folder like the checkout, so that nothing is written into this one."""
    with provisioned(tmp_path, "e2e-page") as made:
        for name in (".tools", ".venv"):
            (tmp_path / name).symlink_to(checkout() / name)
        shutil.copytree(checkout() / "infra", tmp_path / "infra", ignore=shutil.ignore_patterns("engine", "*.*.yaml"))
        page = (
            (checkout() / "docs" / "how-to" / "provision-with-pulumi.md").read_text().partition("## With Pulumi itself")
        )
        block = textwrap.dedent(re.search(r"(?:^    .*\n)+", page[2], re.MULTILINE)[0])
        assert block.endswith("pulumi up\n")
        block = block.replace("init three-sites", f"init {made.name}").replace(
            "profile three-sites", f"profile {made.profile}"
        )
        own = {
            "DYNAMOS_STATE": str(made.state),
            "PULUMI_SKIP_CONFIRMATIONS": "true",
            "PULUMI_HOME": str(tmp_path / "home"),
        }
        words = [
            "bash",
            "-euxc",
            f"{block}pulumi preview --expect-no-changes\npulumi destroy\npulumi stack rm {made.name}",
        ]
        done = subprocess.run(
            words, cwd=tmp_path, env={**os.environ, **own}, capture_output=True, text=True, check=False, timeout=120
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "33 created" in done.stdout
        assert "33 deleted" in done.stdout
        assert not made.look().items


def test_machines_that_exist_are_taken_by_ssh_and_a_wrong_host_key_is_refused(tmp_path, monkeypatch):
    with provisioned(tmp_path, "e2e-machines") as made:
        needs("sshd", "ssh", "ssh-keygen")
        machine = Machine(tmp_path / "machine", monkeypatch)
        try:
            made.write(**on_machines(f"127.0.0.1, port: {machine.port}, user: root, identity: {machine.identity}"))
            machine.is_known_by("other")
            with pytest.raises(
                JobFailed, match=rf"(amsterdam|los-angeles|tokyo)-1 \(127.0.0.1:{machine.port}\)"
            ) as told:
                made.stack.up()
            assert "its host key is not the one that is known" in str(told.value)
            assert "never accepted" in str(told.value)
            machine.is_known_by("host")
            outputs = made.stack.up().outputs
            assert outputs["addresses"] == dict.fromkeys(("amsterdam-1", "los-angeles-1", "tokyo-1"), "127.0.0.1")
            words = ["ssh", "-F", outputs["sshConfig"], "tokyo-1", "uname", "-n"]
            assert (
                subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == os.uname().nodename
            )
            made.stack.destroy()
            assert not Path(outputs["sshConfig"]).exists()
        finally:
            machine.end()


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
