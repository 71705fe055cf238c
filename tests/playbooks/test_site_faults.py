"""Runs that are killed, nodes that do not answer, full disks, wrong files: each is told with what to do, and the same
command goes on from there."""

import json
import os
import random
import shutil
import signal
import subprocess
from contextlib import suppress

import pytest

from dynamos.experiments import descendants
from support.ansible import BIN, PLAYBOOKS, ansible, bridged_world, recap
from support.soaks import soaking
from support.worlds import needs

pytestmark = [pytest.mark.e2e, pytest.mark.testbed, pytest.mark.xdist_group("ansible")]
PROFILE = PLAYBOOKS / "molecule" / "profile.yaml"
SEED = 20261124
DEAF = r"""cd /usr/sbin && mv sshd sshd.away && printf '#!/bin/sh\nexec sleep 600\n' > sshd && chmod 755 sshd"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    needs("ssh", "sshd", "runsvdir", "ping")
    pytest.importorskip("ansible")
    with bridged_world(tmp_path_factory.mktemp("faults"), str(PROFILE)) as made:
        yield made


def environment(world, profile=PROFILE, **more):
    told = {"DYNAMOS_CONTROLLER": str(world.folder), "DYNAMOS_PROFILE": str(profile), "ANSIBLE_NOCOLOR": "1"}
    return {**os.environ, **told, "ANSIBLE_LOCAL_TEMP": str(world.folder / "ansible"), **more}


def play(world, name, *words, profile=PROFILE, **more):
    """Run a playbook, and give its exit code and all that it said."""
    argv = [str(BIN / "ansible-playbook"), name, *words]
    done = subprocess.run(
        argv, cwd=PLAYBOOKS, env=environment(world, profile, **more), text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
    )  # fmt: skip
    return done.returncode, done.stdout


def tasks_of(world, *words):
    done = ansible("ansible-playbook", "site.yml", "--list-tasks", *words, state=world.folder, profile=str(PROFILE))
    return done.stdout.count("TAGS: [") - done.stdout.count("play #")


def kill_at(world, task, late, *words):
    """Kill the playbook so many tasks after it began, and `late` seconds; tell whether it had ended before."""
    argv = [str(BIN / "ansible-playbook"), "site.yml", *words]
    with subprocess.Popen(
        argv, cwd=PLAYBOOKS, env=environment(world), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        begun = 0
        while begun < task and (line := process.stdout.readline()):
            begun += line.startswith("TASK [")
        try:
            process.wait(timeout=late)
        except subprocess.TimeoutExpired:
            started = descendants.of(process.pid)
            os.killpg(process.pid, signal.SIGKILL)
            for pid in started:  # its workers are in sessions of their own, and would wait for ever
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            # What was running on a node may end by itself: nothing waits for it.
            process.stdout.close()
            return False
        return True


@pytest.fixture(scope="module", params=[3, soaking(10)])
def finished(request, world, session_bundle):
    """The nodes after so many runs that were killed at random moments, and one that was not."""
    words = ("-e", f"dynamos_bundle={session_bundle}")
    count = tasks_of(world, *words)
    assert count > 30
    chance, kills = random.Random(SEED), request.param
    # Soon more often than late: most is made early, and each run begins with what the last one did. Tasks that are
    # skipped everywhere say nothing.
    shares = [((number + chance.random()) / kills) ** 2 for number in range(kills)]
    moments = [(round(0.75 * count * share), chance.random()) for share in shares]
    killed = [kill_at(world, task, late, *words) for task, late in moments]
    assert not any(killed), "they were to be killed before they ended"
    code, told = play(world, "site.yml", *words)
    assert code == 0, f"after kills at {moments}:\n{told[-6000:]}"
    return words


def test_killed_runs_are_finished_by_the_next(world, finished):
    again = ansible("ansible-playbook", "site.yml", *finished, state=world.folder, profile=str(PROFILE))
    assert again.returncode == 0, again.stdout + again.stderr
    assert {name: counts["changed"] for name, counts in recap(again).items()} == {"here-1": 0, "there-1": 0}
    code, told = play(world, "verify.yml")
    assert code == 0, told
    for node in world.nodes():
        left = node.run(["ls", "-A", "/opt/dynamos", "/opt/dynamos/releases"]).text
        assert ".new-" not in left
        assert "incoming" not in left


def test_a_node_that_does_not_answer_ssh_is_told_and_the_others_are_set_up(world, finished):
    node = world.find_node("there-1")
    node.run(["sh", "-c", DEAF])
    # Connections that are still there would be taken again.
    words = ("--tags", "users", "-e", f"ansible_control_path_dir={world.folder}/cp")
    try:
        code, told = play(world, "site.yml", *words, ANSIBLE_TIMEOUT="2", ANSIBLE_SSH_RETRIES="0")
    finally:
        node.run(["mv", "/usr/sbin/sshd.away", "/usr/sbin/sshd"])
    assert code != 0
    assert "there-1, in 'node : Look for systemd': it does not answer ssh" in told
    assert "run the same command again" in told
    assert "ok: [here-1]" in told
    code, told = play(world, "site.yml", *words)
    assert code == 0, told


def stack(world, folder, known_hosts):
    """Write the outputs of a stack with these nodes, whose keys are those in a file."""
    folder.mkdir(exist_ok=True)
    ours = world.folder / "ssh"
    config = (ours / "config").read_text().replace(str(ours / "known_hosts"), str(known_hosts))
    (folder / "config").write_text(config)
    way = {"ansible_ssh_common_args": f'-F "{folder}/config"', "ansible_control_path_dir": str(world.folder / "cp2")}
    hosts = {node.name: {"ansible_host": node.name, "dynamos_site": node.site} for node in world.nodes()}
    (folder / "outputs.json").write_text(json.dumps({"inventory": {"all": {"hosts": hosts, "vars": way}}}))
    return str(folder / "outputs.json")


def test_a_wrong_host_key_is_refused_and_not_accepted(world, finished, tmp_path):
    known = tmp_path / "known_hosts"
    keys = dict(line.split(" ", 1) for line in (world.folder / "ssh" / "known_hosts").read_text().splitlines())
    wrong = {**keys, "there-1": keys["here-1"]}
    known.write_text("".join(f"{name} {key}\n" for name, key in wrong.items()))
    outputs = stack(world, tmp_path / "stack", known)
    code, told = play(world, "site.yml", "--tags", "users", DYNAMOS_OUTPUTS=outputs)
    assert code != 0
    assert "there-1, in 'node : Look for systemd': its key is another than the one that is known" in told
    assert "ok: [here-1]" in told
    assert known.read_text() == "".join(f"{name} {key}\n" for name, key in wrong.items())
    known.write_text("".join(f"{name} {key}\n" for name, key in keys.items()))
    code, told = play(world, "site.yml", "--tags", "users", DYNAMOS_OUTPUTS=outputs)
    assert code == 0, told


def test_a_site_without_disk_space_is_told_and_goes_on_when_there_is_some(world, finished):
    node = world.find_node("there-1")
    node.run(["sh", "-c", "mkdir /opt/small && mount -t tmpfs -o size=40m tmpfs /opt/small"])
    words = ("--tags", "release", "--limit", "there-1", *finished, "-e", "dynamos_root=/opt/small")
    code, told = play(world, "site.yml", *words)
    assert code != 0
    assert "TASK [dynamos : Have the release]" in told
    assert "fatal: [there-1]: FAILED!" in told
    assert "See to it that there is room, then run the playbook again" in told
    assert node.run(["ls", "/opt/small"]).text.split() == ["incoming"]
    node.run(["mount", "-t", "tmpfs", "-o", "remount,size=1500m", "tmpfs", "/opt/small"])
    code, told = play(world, "site.yml", *words)
    assert code == 0, told
    assert node.run(["/opt/small/current/bin/python", "-c", "import dynamos; print('works')"]).text == "works\n"
    node.run(["umount", "/opt/small"])


def copied(folder, **changes):
    """Copy the profile with its marketplace, with texts in the files of these names replaced."""
    shutil.copytree(PROFILE.parent / "marketplace", folder / "marketplace")
    shutil.copy(PROFILE, folder / "profile.yaml")
    for name, (before, after) in changes.items():
        path = next(folder.rglob(f"{name}.yaml"))
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))
    return folder / "profile.yaml"


def test_an_agreement_that_names_an_unknown_party_is_told_with_its_place(world, tmp_path):
    profile = copied(tmp_path, clinic=("computeProviders: [board]", "computeProviders: [bord]"))
    code, told = play(world, "site.yml", profile=profile)
    assert code != 0
    flat = " ".join(told.split())
    assert "clinic.yaml" in flat
    assert "'bord'" in flat
    assert "board" in flat.partition("'bord'")[2]
    assert "TASK [" not in told


def test_half_a_testbed_is_told_before_anything_is_done(world, tmp_path):
    profile = copied(tmp_path, profile=("    parties: [clinic]", "    parties: [clinic]\n  far:\n    parties: []"))
    profile.write_text(profile.read_text().replace("[here, there]", "[here, there]\n  - between: [here, far]"))
    code, told = play(world, "site.yml", profile=profile)
    assert code != 0
    flat = " ".join(told.split())
    assert "nodes are missing: far-1; there: here-1, there-1" in flat
    assert "bring the whole testbed up, then run the playbook again" in flat
    assert "TASK [" not in told
