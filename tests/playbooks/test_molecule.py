"""Molecule tries every role by itself, in the order of the playbook, on one testbed; ansible-lint passes all of it."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from support.ansible import BIN, PLAYBOOKS
from support.worlds import needs

pytestmark = [pytest.mark.e2e, pytest.mark.testbed, pytest.mark.xdist_group("ansible")]
SCENARIOS = PLAYBOOKS / "molecule"
(SITE,) = yaml.safe_load((PLAYBOOKS / "site.yml").read_text())
ROLES = [each["role"] for each in SITE["roles"]]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def molecule(folder, *words):
    """Run molecule with nothing of the user's own, and give its exit code and what it said."""
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "MOLECULE_EPHEMERAL_DIRECTORY": str(folder)}
    argv = [str(BIN / "molecule"), "-c", "molecule/base.yml", *words]
    done = subprocess.run(
        argv, cwd=PLAYBOOKS, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        stdin=subprocess.DEVNULL, timeout=600,
    )  # fmt: skip
    return done.returncode, COLOURS.sub("", done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("molecule")
    yield made
    argv = [sys.executable, str(SCENARIOS / "testbed.py"), "down", str(made / "testbed"), ""]
    subprocess.run(argv, check=True, capture_output=True)


def test_every_role_has_a_scenario():
    assert {path.parent.name for path in SCENARIOS.glob("*/verify.yml")} == set(ROLES)


def test_every_role_converges_is_idempotent_and_holds_its_promises(folder, session_bundle):
    needs("ssh", "sshd", "runsvdir", "openssl")
    pytest.importorskip("ansible")
    chosen = [word for role in ROLES for word in ("-s", role)]
    code, told = molecule(
        folder, "-c", "molecule/in_order.yml", "test", *chosen, "--", "-e", f"dynamos_bundle={session_bundle}"
    )
    assert code == 0, told[-8000:]
    _, _, end = told.rpartition("DETAILS")
    for role in ROLES:
        for step in ("converge", "idempotence", "verify"):
            assert f"{role} ➜ {step}: Executed: Successful" in end
    assert "default ➜ destroy: Executed: Successful" in end
    assert not (folder / "testbed").exists()


def test_ansible_lint_has_nothing_to_say():
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1"}
    argv = [str(BIN / "ansible-lint"), "--offline", "--profile", "production", "-q"]
    done = subprocess.run(argv, cwd=PLAYBOOKS, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
