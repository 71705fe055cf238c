"""The contract of a host, for nodes and containers: commands, files and daemons."""

import asyncio
import os
import socket
import threading
import time

import pytest

from dynamos.kit.errors import BadInput, Conflict, JobFailed, NotFound, TimedOut
from dynamos.testbed.daemons import GRACE
from support.worlds import eventually, made_world

pytestmark = pytest.mark.testbed


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with made_world(tmp_path_factory.mktemp("hosts")) as made:
        yield made


@pytest.fixture(params=["node", "container"])
def host(world, request):
    node = world.node("node", "site")
    return node if request.param == "node" else node.container("container")


def test_a_command_gives_its_output_its_errors_and_its_code(host):
    done = host.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.code, done.stdout, done.stderr, done.text) == (3, b"out\n", b"err\n", "out\n")
    assert done.argv[0] == "sh"


def test_a_command_reads_what_it_is_given_however_large(host):
    content = os.urandom(3_000_000)
    assert host.run(["cat"], stdin=content).stdout == content
    assert host.run(["cat"]).stdout == b""


def test_a_command_that_fails_says_why(host):
    with pytest.raises(JobFailed, match="no luck") as caught:
        host.run(["sh", "-c", "echo no luck >&2; exit 9"])
    assert caught.value.facts["exit_code"] == 9
    assert caught.value.where == host.name
    with pytest.raises(JobFailed, match="no such program: nothing-like-it"):
        host.run(["nothing-like-it"])


def test_a_command_that_takes_too_long_is_ended_with_what_it_started(host):
    with pytest.raises(TimedOut, match="did not end within"):
        host.run(["sh", "-c", "sleep 4321 & exec sleep 4321"], within=0.2)
    eventually("the end", lambda: host.run(["pgrep", "-f", "sleep 4321"], check=False).code == 1)


def test_a_command_that_leaves_a_child_with_its_output_does_not_keep_the_caller(host):
    done = host.run(["sh", "-c", "sleep 1234 & echo here"], within=20)
    assert done.stdout == b"here\n"
    host.run(["pkill", "-f", "sleep 1234"])


def test_a_command_gets_nothing_of_the_caller_but_what_is_handed_over(host, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "1")
    names = {line.split("=")[0] for line in host.run(["env"], env={"GIVEN": "1"}).text.splitlines()}
    assert "GIVEN" in names
    assert names <= {"GIVEN", "PATH", "HOME", "USER", "LOGNAME", "LANG", "PWD", "SHLVL", "_"}
    open_now = host.run(["sh", "-c", "ls /proc/self/fd"]).text.split()
    assert open_now == ["0", "1", "2", "3"]  # the last is of ls itself


def test_a_command_runs_as_the_user_without_privileges(host):
    done = host.run(
        ["sh", "-c", "id -un; echo $HOME; touch $HOME/mine && echo written; touch /etc/x"], user="dynamos", check=False
    )
    assert done.text.split() == ["dynamos", "/home/dynamos", "written"]
    assert done.code != 0
    with pytest.raises(JobFailed, match="no such user"):
        host.run(["true"], user="nobody-of-that-name")


def test_files_are_written_whole_and_read_back(host):
    content = os.urandom(2_000_000)
    host.put("/etc/some/new/folder/file", content, mode=0o640)
    assert host.get("/etc/some/new/folder/file") == content
    assert host.run(["stat", "-c", "%a %U", "/etc/some/new/folder/file"]).text == "640 root\n"
    host.put("/etc/some/new/folder/file", b"")
    assert host.get("/etc/some/new/folder/file") == b""
    assert host.run(["ls", "-A", "/etc/some/new/folder"]).text == "file\n"


def test_files_that_cannot_be_read_or_written_are_told(host):
    with pytest.raises(NotFound, match="there is no /etc/nothing"):
        host.get("/etc/nothing")
    with pytest.raises(JobFailed, match="cannot read /etc"):
        host.get("/etc")
    with pytest.raises(JobFailed, match="cannot write"):
        host.put("/proc/nothing/here", b"1")


def test_a_daemon_runs_until_it_is_stopped_and_logs(host):
    pid = host.start("ticker", ["sh", "-c", "echo begun with $GIVEN; exec sleep 1000"], env={"GIVEN": "this"})
    eventually("its program", lambda: host.run(["ps", "-o", "comm=", "-p", str(pid)]).text == "sleep\n")
    eventually("its log", lambda: host.log("ticker").read_text() == "begun with this\n")
    host.stop("ticker")
    assert host.run(["ps", "-p", str(pid)], check=False).code == 1
    assert host.daemons() == {}
    host.stop("ticker")


def test_a_daemon_that_ends_is_started_again(host):
    first = host.start("mortal", ["sleep", "1000"])
    host.run(["kill", "-9", str(first)])
    eventually("its return", lambda: host.daemons()["mortal"]["pid"] not in {0, first})
    assert host.daemons()["mortal"]["restarts"] == 1
    assert "ended with -9; starts again in 0.1 s" in host.log("mortal").read_text()
    host.stop("mortal")


def test_a_daemon_that_ends_at_once_is_tried_less_and_less_often(host):
    host.start("hopeless", ["false"])
    eventually("three tries", lambda: host.daemons()["hopeless"]["restarts"] >= 3)
    pauses = [line.split()[-2] for line in host.log("hopeless").read_text().splitlines()]
    assert pauses[:3] == ["0.1", "0.2", "0.4"]
    host.stop("hopeless")
    assert host.daemons() == {}


def test_a_daemon_that_will_not_end_is_killed_with_what_it_started(host):
    script = "trap '' TERM; (trap '' TERM; exec sleep 5678) & echo ready; while :; do sleep 5678; done"
    host.start("stubborn", ["sh", "-c", script])
    eventually("its readiness", lambda: "ready" in host.log("stubborn").read_text())
    host.stop("stubborn")
    assert host.run(["pgrep", "-f", "sleep 5678"], check=False).code == 1


def test_a_daemon_that_is_stopped_at_once_ends_at_once(host):
    for _ in range(20):
        host.start("brief", ["sleep", "1000"])
        began = time.monotonic()
        host.stop("brief")
        # It ends by the first signal, however early that comes, and not by the one that follows its grace.
        assert time.monotonic() - began < GRACE
    assert host.log("brief").read_text() == ""


def test_the_same_daemon_may_be_started_twice_and_another_may_not_have_its_name(host):
    pid = host.start("one", ["sleep", "1000"])
    assert host.start("one", ["sleep", "1000"]) == pid
    with pytest.raises(Conflict):
        host.start("one", ["sleep", "1001"])
    host.stop("one")
    assert host.start("one", ["sleep", "1001"]) != pid
    host.stop("one")


def test_a_daemon_that_is_no_program_or_has_no_name_is_refused(host):
    with pytest.raises(NotFound, match="no such program: nothing-like-it"):
        host.start("nothing", ["nothing-like-it"])
    with pytest.raises(BadInput):
        host.start("../up", ["true"])
    assert host.daemons() == {}


def test_what_others_left_behind_is_reaped(host):
    host.run(["sh", "-c", "for i in 1 2 3; do (sh -c 'exit 0' &) & done; wait"])
    eventually("no zombies", lambda: "Z" not in host.run(["ps", "-eo", "stat="]).text)


def test_many_threads_may_use_it_at_once(host):
    told: dict[int, str] = {}

    def run(number: int) -> None:
        told[number] = host.run(["echo", str(number)]).text.strip()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == {number: str(number) for number in range(40)}


def test_it_serves_an_event_loop(host):
    async def all_at_once() -> list[str]:
        done = await asyncio.gather(*(asyncio.to_thread(host.run, ["echo", str(n)]) for n in range(8)))
        return [each.text.strip() for each in done]

    assert asyncio.run(all_at_once()) == [str(n) for n in range(8)]


def test_a_port_of_the_machine_is_served_by_a_daemon_inside(host):
    """A socket that listens outside and is handed over: no device, route or rule leads in."""
    program = (
        "import socket\n"
        "with socket.socket(fileno=3) as listening:\n"
        "    while True:\n"
        "        with listening.accept()[0] as connection:\n"
        "            connection.sendall(socket.gethostname().encode())\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pid = host.start("door", ["/usr/bin/python3", "-c", program], fds=[listening.fileno()])
        for _ in range(2):
            with socket.create_connection(listening.getsockname(), timeout=20) as connection:
                assert connection.recv(100).decode() == host.name
                # A daemon that is started again has the socket still.
                host.run(["kill", str(pid)])
                eventually("its return", lambda pid=pid: host.daemons()["door"]["pid"] not in {0, pid})
                pid = host.daemons()["door"]["pid"]
    host.stop("door")


def test_a_command_takes_the_callers_own_input_and_output(host, tmp_path):
    with (tmp_path / "out").open("wb") as out:
        assert host.spawn(["sh", "-c", "hostname; exit 4"], stdout=out).wait(timeout=20) == 4
    assert (tmp_path / "out").read_text() == f"{host.name}\n"


def test_names_resolve_to_what_was_set(host):
    host.set_names({"amsterdam": "10.71.1.10", "tokyo": "10.71.3.10"})
    assert host.run(["getent", "hosts", "tokyo"]).text.split() == ["10.71.3.10", "tokyo"]
    host.set_names({"tokyo": "10.71.4.10"})
    assert host.run(["getent", "hosts", "tokyo"]).text.split() == ["10.71.4.10", "tokyo"]
    assert host.run(["getent", "hosts", "amsterdam"], check=False).code != 0
    assert host.run(["getent", "hosts", host.name]).text.split() == ["127.0.1.1", host.name]


def test_a_command_is_quick(host):
    host.run(["true"])
    began = time.monotonic()
    for _ in range(50):
        host.run(["true"])
    print(f"{(time.monotonic() - began) * 20:.1f} ms a command in a {type(host).__name__.lower()}")
