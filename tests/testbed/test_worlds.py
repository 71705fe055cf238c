"""A world leaves nothing of itself, however it ends, and changes nothing of the machine."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dynamos.kit.errors import Conflict, DynamosError, NotFound, Unavailable
from dynamos.testbed.worlds import World, enter
from support.worlds import Held, eventually, machine_state, made_world, needs

pytestmark = pytest.mark.testbed


def test_a_world_with_nodes_and_wires_changes_nothing_of_the_machine(tmp_path):
    needs("ip")
    before = machine_state()
    with made_world(tmp_path) as world:
        one, other = world.node("one", "one"), world.node("other", "other")
        container = one.container("box")
        world.wire(one, "wan0", other, "wan0", 1500)
        one.run(["ip", "link", "add", "br0", "type", "bridge"])
        one.run(["ip", "route", "add", "198.51.100.0/24", "dev", "lo"])
        one.start("sleeper", ["sleep", "1000"])
        assert machine_state() == before
        with Held(world, one, other, container) as held:
            assert held.inhabitants()
            world.kill()
            assert held.inhabitants() == []
        assert machine_state() == before
        assert World.find(tmp_path) is None
        assert list(tmp_path.rglob("*.sock")) == []


def test_a_world_makes_no_control_group(tmp_path):
    with made_world(tmp_path) as world:
        node = world.node("one", "one")
        node.start("sleeper", ["sleep", "1000"])
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8")
        with Held(node) as held:
            inhabitants = held.inhabitants()
        for pid in inhabitants:
            assert Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8") == own
        assert node.run(["sh", "-c", "ls /sys/fs/cgroup"]).text == ""


def test_a_world_that_is_killed_while_nodes_are_made_leaves_nothing_and_can_be_made_again(tmp_path):
    needs("ip")
    before = machine_state()
    moments = random.Random(4)
    for _ in range(10):
        with made_world(tmp_path) as world:
            first = world.node("first", "first")
            first.container("box")
            maker = threading.Thread(target=_make_until_refused, args=(world,))
            maker.start()
            count = moments.randrange(1, 8)
            eventually("nodes", lambda world=world, count=count: len(world.nodes()) > count)
            spin_until = time.monotonic() + moments.random() / 50
            while time.monotonic() < spin_until:
                pass

            with Held(world, *world.nodes()) as held:
                os.kill(world.pid, signal.SIGKILL)
                maker.join()
                eventually("the end of the world", lambda held=held: not held.inhabitants())
            assert World.find(tmp_path) is None
            assert machine_state() == before


def _make_until_refused(world: World) -> None:
    with suppress(Unavailable, NotFound):
        for number in range(1000):
            world.node(f"node-{number}", "somewhere")


def test_two_worlds_know_nothing_of_each_other(tmp_path):
    with made_world(tmp_path / "a", "a") as one, made_world(tmp_path / "b", "b") as other:
        in_one, in_other = one.node("same", "site"), other.node("same", "site")
        in_one.put("/etc/only-here", b"1")
        in_one.run(["ip", "link", "add", "br0", "type", "bridge"])
        with pytest.raises(NotFound):
            in_other.get("/etc/only-here")
        assert "br0" not in in_other.run(["ip", "link"]).text

        one.kill()

        assert in_other.run(["hostname"]).text == "same\n"
        assert not in_one.alive


def test_another_process_finds_a_world_and_uses_it(tmp_path):
    with made_world(tmp_path) as world:
        world.node("one", "site")
        program = (
            "import sys, pathlib; from dynamos.testbed.worlds import World;"
            "world = World.find(pathlib.Path(sys.argv[1]));"
            "print(world.name, world.find_node('site').run(['hostname']).text)"
        )
        found = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
        assert found.stdout.split() == ["tests", "one"]


def test_a_person_enters_a_node_or_a_container_with_their_own_input_and_output(tmp_path):
    with made_world(tmp_path) as world:
        world.node("one", "site").container("box")
        program = (
            "import sys, pathlib; from dynamos.testbed.worlds import enter;"
            "sys.exit(enter(pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[4:], user=sys.argv[3]))"
        )
        script = 'echo "$(hostname) $(id -un) $HOME $(cat)"; exit 5'
        for name, user, home in (("site", "root", "/root"), ("one/box", "dynamos", "/home/dynamos")):
            argv = [sys.executable, "-c", program, tmp_path, name, user, "sh", "-c", script]
            done = subprocess.run(argv, input="given", capture_output=True, text=True, check=False)
            hostname = name.rpartition("/")[2].replace("site", "one")
            assert (done.returncode, done.stdout) == (5, f"{hostname} {user} {home} given\n"), done.stderr
        with pytest.raises(NotFound, match="there is no container 'one/nothing'"):
            enter(tmp_path, "one/nothing", ["true"])
        world.kill()
        with pytest.raises(NotFound, match="the testbed is not up"):
            enter(tmp_path, "one", ["true"])


def test_a_node_is_whole_though_whoever_made_it_was_killed(tmp_path):
    with made_world(tmp_path) as world:
        program = (
            "import sys, pathlib; from dynamos.testbed.worlds import World;"
            "world = World.find(pathlib.Path(sys.argv[1]));"
            "[world.node(f'node-{number}', 'site') for number in range(1000)]"
        )
        for _ in range(3):
            with subprocess.Popen([sys.executable, "-c", program, tmp_path], stderr=subprocess.DEVNULL) as maker:
                before = len(world.nodes())
                eventually("another node", lambda before=before: len(world.nodes()) > before)
                maker.kill()
        count = len(world.nodes())
        for number in range(count + 2):
            assert world.node(f"node-{number}", "site").run(["hostname"]).text == f"node-{number}\n"


def test_a_file_of_a_world_that_has_ended_is_not_believed(tmp_path):
    with made_world(tmp_path) as world:
        told = json.loads((tmp_path / "world.json").read_text(encoding="utf-8"))
        world.kill()
        # The same number, but of a process that was born at another time: this one.
        (tmp_path / "world.json").write_text(json.dumps(told | {"pid": os.getpid()}), encoding="utf-8")
        assert World.find(tmp_path) is None
        world.kill()
        assert World.create(tmp_path, "tests").alive


def test_a_world_is_made_once(tmp_path):
    with made_world(tmp_path) as world:
        with pytest.raises(Conflict):
            World.create(tmp_path, "tests")
        assert world.alive


def test_many_who_make_the_same_world_make_one(tmp_path):
    with made_world(tmp_path / "probe"):
        pass
    outcomes: list[str] = []

    def make() -> None:
        try:
            outcomes.append(str(World.create(tmp_path, "tests").pid))
        except DynamosError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world = World.find(tmp_path)
    assert world is not None
    try:
        assert sorted(outcomes) == sorted([str(world.pid), *["conflict"] * 3])
    finally:
        world.kill()


def test_what_is_asked_of_a_world_that_has_ended_says_so(tmp_path):
    with made_world(tmp_path) as world:
        node = world.node("one", "site")
        world.kill()
        for call in (lambda: node.run(["true"]), lambda: world.node("two", "site"), lambda: node.pid):
            with pytest.raises(NotFound, match="is not there"):
                call()
        assert world.nodes() == []
        node.destroy()
        world.kill()


def test_a_command_whose_world_ends_is_told_so(tmp_path):
    with made_world(tmp_path) as world:
        node = world.node("one", "site")
        errors: list[DynamosError] = []

        def wait() -> None:
            try:
                node.run(["sh", "-c", "touch /tmp/begun; exec sleep 1000"], within=60)
            except DynamosError as error:
                errors.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        eventually("the command", lambda: node.run(["test", "-e", "/tmp/begun"], check=False).code == 0)
        world.kill()
        waiting.join()
        assert isinstance(errors[0], Unavailable)


def test_root_of_a_node_changes_no_setting_of_the_machine(tmp_path):
    setting = Path("/proc/sys/kernel/panic")
    before = setting.read_text(encoding="ascii")
    for shifted in (True, False):
        with made_world(tmp_path / str(shifted), shifted=shifted) as world:
            node = world.node("one", "site")
            failed = node.run(["sh", "-c", "echo 77 > /proc/sys/kernel/panic"], check=False)
            assert failed.code != 0
            assert setting.read_text(encoding="ascii") == before
            node.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
            assert node.get("/proc/sys/net/ipv4/ip_forward") == b"1\n"


def test_a_node_sees_the_machines_programs_and_none_of_its_secrets(tmp_path):
    shown, hidden = tmp_path / "shown", tmp_path / "hidden"
    for folder in (shown, hidden):
        folder.mkdir()
        (folder / "file").write_text("text", encoding="utf-8")
    with made_world(tmp_path / "testbed", show=[shown]) as world:
        node = world.node("one", "site")
        assert node.get(str(shown / "file")) == b"text"
        assert node.run(["touch", str(shown / "more")], check=False).code != 0
        for path in (hidden / "file", world.folder / "world.json"):
            with pytest.raises(NotFound):
                node.get(str(path))
        assert node.run(["ls", "-A", "/etc/ssh"]).text == ""
        assert node.run(["ls", "-A", "/home"]).text == "dynamos\n"
        assert all(line.split(":")[1] == "*" for line in node.get("/etc/shadow").decode().splitlines())
        program = "import dynamos.kit.errors as errors; print(errors.__name__)"
        assert node.run([sys.executable, "-c", program], user="dynamos").text == "dynamos.kit.errors\n"


def test_fifty_nodes_fit(tmp_path):
    with made_world(tmp_path) as world:
        began = time.monotonic()
        nodes = [world.node(f"node-{number}", f"site-{number}") for number in range(50)]
        took = time.monotonic() - began
        kilobytes = [_proportional(node.pid) for node in nodes]
        print(f"50 nodes in {took:.2f} s, {sum(kilobytes) / 1024:.0f} MiB of memory together")
        assert [node.name for node in world.nodes()] == sorted(node.name for node in nodes)
        assert nodes[49].run(["hostname"]).text == "node-49\n"


def _proportional(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def test_a_person_without_privileges_makes_a_world(tmp_path):
    """Run by the system's own interpreter, since ours may be where others cannot read it."""
    if os.geteuid() != 0:
        pytest.skip("is tried by becoming somebody without privileges")
    needs("runuser", "python3")
    root = Path(World.create.__func__.__code__.co_filename).parents[2]
    program = Path(__file__).with_name("rootless.py").read_text(encoding="utf-8")
    argv = ["runuser", "-u", "nobody", "--", "/usr/bin/python3", "-c", program, root]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/", timeout=60)
    if tried.returncode == 3:
        pytest.skip(f"not allowed here: {tried.stdout.strip()}")
    assert tried.returncode == 0, tried.stderr
    told = json.loads(tried.stdout)
    assert told["kind"] in {"single", "rootless"}
    assert told["hostname"] == "one\n"
    assert told["pinged"] == 0
    assert told["links"] == "1: lo:"
    assert told["lacks"]


def test_a_world_in_a_node_of_another_world(tmp_path):
    with made_world(tmp_path) as world:
        node = world.node("outer", "site")
        program = (
            "import sys, pathlib; from dynamos.testbed.worlds import World;"
            "world = World.create(pathlib.Path('/root/testbed'), 'inner');"
            "print(world.kind, world.node('in', 'site').run(['hostname']).text); world.kill()"
        )
        assert node.run([sys.executable, "-c", program]).text.split() == ["same", "in"]
