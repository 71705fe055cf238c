"""Over links that carry no more than 1280 bytes, packets in an overlay are smaller than IPv6 needs."""

from __future__ import annotations

import pytest

from dynamos.testbed.overlays import networks, registry
from dynamos.testbed.overlays.drivers import Network
from support.overlays import Lab, unable

pytestmark = [pytest.mark.testbed, pytest.mark.skipif(bool(unable()), reason=unable())]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("lab"), sites=("ams", "los"), containers=1)
    yield made
    made.world.kill()


@pytest.mark.parametrize("name", ["none", "vxlan", "evpn", "wireguard", "ipsec", "nebula", "openvpn", "mtls"])
def test_a_network_of_small_packets_is_made_with_every_driver(lab, name):
    driver = registry.driver(name)
    if lacks := driver.missing(lab.nodes["ams"]):
        pytest.skip("; ".join(map(str, lacks)))
    usual = lab.network(driver)
    network = Network(usual.name, usual.number, usual.subnet, 1200, usual.options)
    members = lab.members(network, "ams1", "los1")
    try:
        networks.bring(network, members, driver)
        assert lab.hear(members[0].container, {"los1": members[1].address})
        if driver.capabilities.layer < 4:
            assert networks.verify_mtu(network, members, driver) == []
    finally:
        networks.take_down(network, members, driver)
