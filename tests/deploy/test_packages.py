import os
import subprocess
from typing import get_args

import pytest

from dynamos.deploy import doctors
from dynamos.deploy.packages import FEATURES, SERVICES, lacking, packages_of
from dynamos.kit.errors import JobFailed, Unavailable
from dynamos.model.networks import DriverName
from dynamos.testbed.overlays.registry import driver

ESSENTIAL = {"bash", "diffutils"}
"""Packages that every Debian has."""


@pytest.fixture
def capable(monkeypatch):
    monkeypatch.setattr(doctors, "obstacle", lambda: "")


class Apt:
    """Plays apt-get: keeps what it was asked, and what forbade services to start then."""

    def __init__(self, root, *codes):
        (root / "usr/sbin").mkdir(parents=True, exist_ok=True)
        self.rule = root / "usr/sbin/policy-rc.d"
        self.codes = list(codes)
        self.asked = []
        self.forbidden = []

    def __call__(self, words):
        self.asked.append(" ".join(words[:2]))
        self.forbidden.append(self.rule.exists() and os.access(self.rule, os.X_OK))
        code = self.codes.pop(0) if self.codes else 0
        return subprocess.CompletedProcess(words, code, "", "E: no such thing\n" if code else "")


def test_a_feature_lacks_just_the_packages_of_which_something_is_missing():
    feature = next(each for each in FEATURES if each.name == "ipsec")
    assert lacking(feature, lambda _: True) == {}
    assert lacking(feature, lambda sign: sign != "swanctl") == {"strongswan-swanctl": ("swanctl",)}


def test_each_package_is_told_once():
    told = packages_of((*FEATURES, *FEATURES))
    assert len(told) == len(set(told))
    assert set(SERVICES) <= set(told)


@pytest.mark.parametrize("name", get_args(DriverName))
def test_what_a_driver_names_is_in_the_list_under_its_name_or_under_sites(name):
    listed = {package for each in FEATURES if each.name in ("sites", name) for package in each.needs}
    assert set(driver(name).capabilities.programs.values()) <= listed | ESSENTIAL


def test_services_are_forbidden_to_start_only_while_packages_are_installed(tmp_path, capable):
    apt, said = Apt(tmp_path), []
    doctors.install(("haproxy",), told=said.append, run=apt, root=tmp_path)
    assert apt.asked == ["apt-get install"]
    assert apt.forbidden == [True]
    assert not apt.rule.exists()
    assert said == ["apt-get install --no-install-recommends haproxy"]


def test_a_rule_about_services_that_is_there_already_is_left_alone(tmp_path, capable):
    apt = Apt(tmp_path)
    apt.rule.write_text("mine")
    doctors.install(("haproxy",), told=lambda _: None, run=apt, root=tmp_path)
    assert apt.rule.read_text() == "mine"


def test_with_systemd_nothing_that_was_installed_starts_with_the_machine(tmp_path, capable):
    apt = Apt(tmp_path)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    doctors.install(("haproxy", "iproute2"), told=lambda _: None, run=apt, root=tmp_path)
    assert apt.asked == ["apt-get install", "systemctl disable"]


def test_lists_of_packages_are_renewed_where_they_are_too_old(tmp_path, capable):
    apt = Apt(tmp_path, 100, 0, 0)
    doctors.install(("haproxy",), told=lambda _: None, run=apt, root=tmp_path)
    assert apt.asked == ["apt-get install", "apt-get update", "apt-get install"]


def test_what_apt_get_said_is_told_where_it_fails_and_nothing_stays_forbidden(tmp_path, capable):
    apt = Apt(tmp_path, 100, 100, 100)
    with pytest.raises(JobFailed) as told:
        doctors.install(("haproxy",), told=lambda _: None, run=apt, root=tmp_path)
    assert told.value.facts["log"] == ["E: no such thing"]
    assert not apt.rule.exists()


def test_without_root_a_person_is_told_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setattr(doctors, "obstacle", lambda: "it takes root")
    with pytest.raises(Unavailable) as told:
        doctors.install(("haproxy",), told=lambda _: None, run=Apt(tmp_path), root=tmp_path)
    assert told.value.hint == "as root: apt-get install --no-install-recommends haproxy"
