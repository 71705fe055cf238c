"""What the doctor says of packages, and what --fix does about them, with an apt-get that is played."""

import json

import pytest

from dynamos.cli import doctors as checks
from dynamos.deploy import doctors
from support.commands import dynamos


@pytest.fixture
def machine(monkeypatch):
    """A machine on which some programs are missing until their packages are installed."""
    lost = {"wg", "openvpn"}
    asked = []

    def install(packages, *, told):
        told(doctors.command(packages))
        asked.append(packages)
        lost.clear()

    monkeypatch.setattr(doctors, "is_there", lambda sign: sign not in lost)
    monkeypatch.setattr(doctors, "missing", lambda: ("wireguard-tools", "openvpn") if lost else ())
    monkeypatch.setattr(doctors, "obstacle", lambda: "")
    monkeypatch.setattr(doctors, "install", install)
    nothing = iter(())
    for name in ("_python", "_libraries", "_bus", "_isolation", "_files", "_world"):
        monkeypatch.setattr(checks, name, lambda: nothing)
    return asked


def packages(capsys, tmp_path, *words):
    said = dynamos(capsys, "doctor", "--state", tmp_path, "--format", "json", *words)
    assert said.code == 0, said.err
    found = {each["what"]: each for each in json.loads(said.out) if each["what"].startswith("packages: ")}
    return found, said.err


def test_each_feature_says_what_is_missing_and_what_is_lost_without_it(capsys, tmp_path, machine):
    found, _ = packages(capsys, tmp_path)
    assert found["packages: evpn"]["verdict"] == "ok"
    assert found["packages: openvpn"] == {
        "what": "packages: openvpn", "verdict": "limited", "found": "without openvpn",
        "hint": "there is no overlay openvpn; dynamos doctor --fix installs them",
    }  # fmt: skip
    assert machine == []


def test_fix_installs_all_that_is_missing_at_once_and_says_how(capsys, tmp_path, machine):
    found, said = packages(capsys, tmp_path, "--fix")
    assert machine == [("wireguard-tools", "openvpn")]
    assert "apt-get install --no-install-recommends wireguard-tools openvpn" in said
    assert {each["verdict"] for each in found.values()} == {"ok"}


def test_where_nothing_can_be_installed_it_says_what_to_type_as_root(capsys, tmp_path, machine, monkeypatch):
    monkeypatch.setattr(doctors, "obstacle", lambda: "it takes root")
    found, _ = packages(capsys, tmp_path, "--fix")
    assert machine == []
    assert "as root: apt-get install --no-install-recommends openvpn" in found["packages: openvpn"]["hint"]
