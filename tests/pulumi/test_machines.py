"""Machines that exist are asked who they are, and one that cannot be trusted or reached is told by name."""

import json

import pytest

from dynamos.deploy.pulumi.access import AccessProvider, MachineProvider
from dynamos.deploy.pulumi.machines import Machine
from dynamos.kit.errors import Refused, Unavailable

PROPS = {"name": "m-1", "site": "a", "address": "192.0.2.1", "port": 2222.0, "user": "ada", "identity": ""}


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Give what sets how the ssh on the path answers; it notes its words."""

    def answers(script):
        program = tmp_path / "ssh"
        program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return tmp_path / "words"

    return answers


def test_a_machine_says_who_it_is_and_no_host_key_is_accepted_unseen(ssh):
    words = ssh("printf 'box\\nLinux\\nx86_64\\n'")
    told = MachineProvider().create(PROPS).outs
    assert (told["host"], told["system"], told["reached"]) == ("box", "Linux", True)
    assert "StrictHostKeyChecking=yes" in words.read_text()
    assert "-p 2222 -- 192.0.2.1" in words.read_text()


def test_a_wrong_host_key_is_refused(ssh):
    ssh("echo 'Host key verification failed.' >&2; exit 255")
    with pytest.raises(Refused, match="host key") as told:
        Machine.of(PROPS).ask()
    assert told.value.where == "m-1 (192.0.2.1:2222)"
    assert "known_hosts" in told.value.hint


def test_a_machine_that_does_not_answer_is_told_with_what_to_try(ssh):
    ssh("echo 'connect to host 192.0.2.1 port 2222: Connection refused' >&2; exit 255")
    with pytest.raises(Unavailable, match="Connection refused") as told:
        MachineProvider().create(PROPS)
    assert told.value.hint == "try by hand: ssh -p 2222 ada@192.0.2.1"


def test_a_machine_that_does_not_answer_is_not_gone_and_is_asked_again(ssh):
    ssh("exit 255")
    read = MachineProvider().read("machine/m-1", dict(PROPS))
    assert (read.id, read.outs["reached"]) == ("machine/m-1", False)
    assert MachineProvider().diff("id", read.outs, PROPS).changes


def test_another_address_is_asked_and_the_same_one_is_left_alone():
    provider, there = MachineProvider(), {**PROPS, "reached": True}
    assert provider.diff("id", there, {**PROPS, "address": "192.0.2.2"}).changes
    assert not provider.diff("id", there, PROPS).changes


def test_an_identity_that_is_not_there_is_told_before_anything_is_done(tmp_path):
    told = MachineProvider().check({}, {**PROPS, "identity": str(tmp_path / "none")})
    assert told.failures[0].property == "identity"


def test_ways_in_are_files_that_ssh_and_ansible_read(tmp_path):
    inventory = {"all": {"hosts": {"m-1": {}}, "vars": {}, "children": {}}}
    props = {"folder": str(tmp_path), "machines": [PROPS], "inventory": inventory, "on": {}}
    outs = AccessProvider().create(props).outs
    config = (tmp_path / "ssh_config").read_text()
    assert "Host m-1" in config
    assert "Port 2222" in config
    told = json.loads((tmp_path / "inventory.json").read_text())["all"]["vars"]
    assert told["ansible_ssh_common_args"] == f'-F "{tmp_path / "ssh_config"}"'
    assert AccessProvider().read("access", outs).id == "access"
    AccessProvider().delete("access", outs)
    assert AccessProvider().read("access", outs).id == ""
