"""What speaks ssh gets into a node, knows which one it is, and accepts no other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dynamos.testbed.ssh import SshAccess
from support.worlds import made_world, needs

pytestmark = pytest.mark.testbed


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    needs("ssh", "sshd", "ssh-keygen")
    with made_world(tmp_path_factory.mktemp("ssh with a space")) as made:
        made.node("ams-1", "amsterdam")
        made.node("tok-1", "tokyo")
        yield made


@pytest.fixture(scope="module")
def access(world):
    access = SshAccess(world.folder)
    access.offer(world.nodes())
    return access


def _ssh(access, *words, **options):
    argv = ["ssh", "-F", access.config, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, **options)


def test_ssh_gets_in_by_the_name_of_a_node_and_of_a_site(access):
    for name, node in (("ams-1", "ams-1"), ("amsterdam", "ams-1"), ("tokyo", "tok-1")):
        done = _ssh(access, name, "hostname; cat; exit 7", input="given")
        assert (done.returncode, done.stdout, done.stderr) == (7, f"{node}\ngiven", "")
    assert _ssh(access, "dynamos@tokyo", "id -un").stdout == "dynamos\n"


def test_ssh_gives_a_terminal(access):
    done = _ssh(access, "-tt", "tokyo", "tty; stty size >/dev/null && echo sized")
    assert done.stdout.split() == ["/dev/pts/0", "sized"]


def test_scp_copies_both_ways(access, tmp_path):
    content = os.urandom(1_000_000)
    (tmp_path / "there").write_bytes(content)
    copy = ["scp", "-q", "-F", str(access.config)]
    subprocess.run([*copy, tmp_path / "there", "ams-1:/opt/file"], check=True, timeout=60)
    subprocess.run([*copy, "amsterdam:/opt/file", tmp_path / "back"], check=True, timeout=60)
    assert (tmp_path / "back").read_bytes() == content


def test_paramiko_gets_in(access):
    paramiko = pytest.importorskip("paramiko")
    entry = paramiko.SSHConfig.from_path(str(access.config)).lookup("tokyo")
    proxy = paramiko.ProxyCommand(entry["proxycommand"])
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(access.known_hosts))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        key = {"key_filename": str(access.identity), "look_for_keys": False, "allow_agent": False}
        client.connect(entry["hostname"], username=entry["user"], sock=proxy, timeout=60, **key)
        _, stdout, _ = client.exec_command("hostname")
        assert stdout.read() == b"tok-1\n"
        transport = client.get_transport()
    transport.join(timeout=20)
    proxy.process.wait(timeout=20)
    for pipe in (proxy.process.stdin, proxy.process.stdout, proxy.process.stderr):
        pipe.close()


def test_ansible_gets_in(access, tmp_path):
    pytest.importorskip("ansible")
    (tmp_path / "inventory").write_text("ams-1\ntok-1\n", encoding="utf-8")
    env = {**os.environ, "ANSIBLE_HOST_KEY_CHECKING": "True", "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"}
    env |= {"ANSIBLE_SSH_ARGS": f'-F "{access.config}"', "ANSIBLE_HOME": str(tmp_path), "ANSIBLE_PIPELINING": "True"}
    env["ANSIBLE_LOCAL_TEMP"] = str(tmp_path / "local")
    env.pop("PYTHONPATH", None)
    argv = [
        str(Path(sys.executable).parent / "ansible"),
        "all",
        "-i",
        tmp_path / "inventory",
        "-m",
        "command",
        "-a",
        "hostname",
        "-o",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    told = sorted(done.stdout.splitlines())
    assert told == [f"{name} | CHANGED | rc=0 | (stdout) {name}" for name in ("ams-1", "tok-1")]


def test_each_node_has_a_host_key_of_its_own_that_only_it_has(world, access):
    keys = {}
    for node in world.nodes():
        keys[node.name] = node.get("/run/ssh/host_key.pub").split()[1]
        assert node.run(["stat", "-c", "%a", "/run/ssh/host_key"]).text == "600\n"
        private = node.get("/run/ssh/host_key")
        assert not [path for path in world.folder.rglob("*") if path.is_file() and private in path.read_bytes()]
    assert len(set(keys.values())) == 2
    known = dict(line.split()[::2] for line in access.known_hosts.read_text().splitlines())
    assert known == {name: key.decode() for name, key in keys.items()}


def test_a_wrong_host_key_is_refused(world, access):
    node = world.find_node("ams-1")
    node.run(["sh", "-c", "rm /run/ssh/host_key*; ssh-keygen -q -t ed25519 -N '' -f /run/ssh/host_key"])
    refused = _ssh(access, "ams-1", "hostname")
    assert refused.returncode == 255
    assert refused.stdout == ""
    access.offer(world.nodes())
    assert _ssh(access, "ams-1", "hostname").stdout == "ams-1\n"


def test_another_key_is_refused(access, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    # The first one that is named is tried first, and the configuration's own would be tried after it.
    alone = access.config.read_text().replace(str(access.identity), str(tmp_path / "other"))
    (tmp_path / "config").write_text(alone, encoding="utf-8")
    argv = ["ssh", "-F", tmp_path / "config", "tokyo", "hostname"]
    refused = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


def test_a_node_that_is_not_there_is_told(world, access):
    world.node("brief", "brief")
    access.offer(world.nodes())
    assert _ssh(access, "brief", "hostname").stdout == "brief\n"
    world.find_node("brief").destroy()
    gone = _ssh(access, "brief", "hostname")
    assert gone.returncode == 255
    assert "brief is not there" in gone.stderr


def test_nodes_reach_each_other_by_ssh_over_their_network_where_sshd_serves(world, access, tmp_path):
    one, other = world.find_node("ams-1"), world.find_node("tok-1")
    world.wire(one, "wan0", other, "wan0")
    one.run(["ip", "addr", "add", "198.18.0.1/24", "dev", "wan0"])
    other.run(["ip", "addr", "add", "198.18.0.2/24", "dev", "wan0"])
    access.serve(other, "198.18.0.2")
    one.put("/root/.ssh/key", access.identity.read_bytes(), mode=0o600)
    public = other.get("/run/ssh/host_key.pub").decode()
    one.put("/root/.ssh/known_hosts", f"198.18.0.2 {public}".encode())
    argv = [
        "ssh",
        "-i",
        "/root/.ssh/key",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectionAttempts=20",
        "198.18.0.2",
        "hostname",
    ]
    assert one.run(argv, within=60).text == "tok-1\n"
    other.stop("sshd")
