"""After all that was done to it: nodes as they were before."""

import pytest

from support.ansible import ansible, recap

pytestmark = [pytest.mark.e2e, pytest.mark.testbed, pytest.mark.xdist_group("ansible")]
PROFILE = "three-sites"
LEFT = """
ls -d /opt/dynamos /var/lib/dynamos /etc/dynamos /var/log/dynamos /run/dynamos
ip -o link | grep ': ov'
nft list tables
getent passwd | grep ^dynamos-
ps -eo args | grep '[r]unsv\\|[n]ats-server\\|[d]ynamos.testbed.machines'
"""


def play(world, name):
    return ansible("ansible-playbook", name, state=world.folder, profile=PROFILE)


def test_teardown_leaves_nodes_as_they_were(world, deployed):
    done = play(world, "teardown.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    for node in world.nodes():
        left = node.run(
            [
                "sh",
                "-c",
                LEFT,
            ],
            check=False,
        )
        assert left.text == ""
    assert [counts["changed"] for counts in recap(play(world, "teardown.yml")).values()] == [0, 0, 0]
