"""Every role says what it takes, and its README says the same."""

import importlib.util

import pytest
import yaml

from support.ansible import PLAYBOOKS

_SPEC = importlib.util.spec_from_file_location("readmes", PLAYBOOKS / "readmes.py")
readmes = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(readmes)
ROLES = sorted(path for path in (PLAYBOOKS / "roles").iterdir() if path.is_dir())


def load(path):
    return yaml.safe_load(path.read_text()) or {}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_readme_is_current(role):
    assert (role / "README.md").read_text() == readmes.readme(role), "run playbooks/readmes.py"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_default_is_described_as_it_is(role):
    options = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    for name, value in load(role / "defaults" / "main.yml").items():
        assert name in options
        assert options[name].get("default", value) == value


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_task_has_the_tag_of_its_role(role):
    for task in load(role / "tasks" / "main.yml"):
        assert role.name in task["tags"], task["name"]


def test_the_playbook_runs_every_role():
    (play,) = load(PLAYBOOKS / "site.yml")
    assert {each["role"] for each in play["roles"]} == {role.name for role in ROLES}
