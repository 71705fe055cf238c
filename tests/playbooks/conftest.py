"""What the tests of playbooks share, since to make it takes longer than many a test: one bundle of wheels, and one
place where site.yml has been played. Modules use it in the order of their names; the last one tears it down."""

import pytest

from dynamos.deploy import bundles
from support.ansible import ansible, bridged_world, recap
from support.worlds import needs

PROFILE = "three-sites"


@pytest.fixture(scope="session")
def session_bundle(tmp_path_factory):
    """The archive of the bundle of this checkout."""
    return bundles.make(tmp_path_factory.mktemp("bundles")).archive


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Three nodes on a bridge; its folder is the state of the controller, too."""
    needs("ssh", "sshd", "runsvdir", "curl", "ping")
    pytest.importorskip("ansible")
    with bridged_world(tmp_path_factory.mktemp("site"), PROFILE) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYNAMOS_OVERLAY", "none")
        yield made


@pytest.fixture(scope="session")
def bundle(session_bundle):
    return session_bundle


@pytest.fixture(scope="session")
def deployed(world, bundle):
    """What the first run of site.yml told, by node."""
    state = world.folder
    done = ansible("ansible-playbook", "site.yml", "-e", f"dynamos_bundle={bundle}", state=state, profile=PROFILE)
    assert done.returncode == 0, done.stdout + done.stderr
    return recap(done)
