"""What passes between the sites of a cluster: in the clear by pods' routes, never where an overlay encrypts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster.clusters import Cluster

from dynamos.testbed.proofs.canaries import canaries
from support import cluster_overlays, pod_networks
from support.pod_networks import PodNetwork

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.xdist_group("cluster")]
NAMESPACE = "overlays"


@pytest.fixture(scope="module")
def pods(sites: Cluster) -> Iterator[dict[str, PodNetwork]]:
    """Give a pod at each site, by the site."""
    pod_networks.load_shell(sites)
    own = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    placed = [pod_networks.pod(node.site, NAMESPACE, {}, nodeName=node.name) for node in sites.spec.nodes]
    pod_networks.apply(sites, [own, *placed])
    try:
        pod_networks.until_ready(sites, [NAMESPACE])
        yield {name: network for (_, name), network in pod_networks.networks(sites, [NAMESPACE]).items()}
    finally:
        sites.kubectl("delete", "namespace", NAMESPACE, "--wait=true", check=False)


@pytest.mark.parametrize("driver", ["none", "wireguard", "mtls"])
def test_a_canary_is_seen_between_the_sites_just_where_the_overlay_does_not_encrypt(sites, pods, driver):
    with cluster_overlays.overlaid(sites, driver, pods) as (overlay, hosts):
        found = canaries([overlay], hosts, cluster_overlays.spots(sites))
    found.check()
    assert [each.delivered for each in found.sightings] == [True, True]
    for each in found.sightings:
        assert any(each.seen.values()) == (driver == "none")
        assert each.bytes >= each.sent


@pytest.mark.parametrize("driver", ["wireguard", "mtls"])
def test_an_overlay_between_pods_leaves_nothing_on_their_nodes(sites, pods, driver):
    def links() -> dict[str, str]:
        return {site: pod.run(["ip", "-o", "link"]).text for site, pod in pods.items()}

    def listening() -> dict[str, str]:
        return {site: pod.box.run(["ss", "-lntup"]).text for site, pod in pods.items()}

    before = links(), listening()
    with cluster_overlays.overlaid(sites, driver, pods):
        assert links() != before[0]
    assert (links(), listening()) == before
