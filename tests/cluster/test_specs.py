"""What a cluster of a profile is made of."""

from __future__ import annotations

import pytest

from cluster.commands import server_names
from cluster.specs import profile_of, spec_of
from cluster.volumes import released, wanted
from dynamos.kit.errors import BadInput


def test_nodes_of_sites_have_networks_of_their_own_and_the_control_plane_another_machine() -> None:
    spec = spec_of(profile_of(("a", "b"), 2, [("a", "b", "20ms")]))
    assert [(node.name, node.site) for node in spec.nodes] == [("a-1", "a"), ("a-2", "a"), ("b-1", "b"), ("b-2", "b")]
    assert len({node.pods for node in spec.nodes}) == len({each.ip for each in spec.machines}) - 1 == 4
    assert spec.control.site == "a"
    assert spec.control.ip in server_names(spec)


def test_routers_know_the_way_to_pods_at_every_site() -> None:
    spec = spec_of(profile_of(("a", "b", "c"), 1, [("a", "b", "5ms"), ("b", "c", "5ms")]))
    for routes in spec.routes:
        ways = {hop.destination: hop for hop in routes.hops}
        assert ways.keys() >= {node.pods for node in spec.nodes}, routes.name
        own = next(node for node in spec.nodes if node.site == routes.name)
        assert ways[own.pods].via == own.ip
    first = next(each for each in spec.routes if each.name == "a")
    assert {hop.link for hop in first.hops if hop.link} == {"a-b"}


def test_pods_have_room_for_the_smallest_link() -> None:
    profile = profile_of(("a", "b"), 1, [("a", "b", "5ms")])
    small = profile.links[0].model_copy(update={"mtu": 1280})
    assert spec_of(profile.model_copy(update={"links": (small,)})).mtu == 1280


def test_sites_that_do_not_reach_each_other_are_no_cluster() -> None:
    with pytest.raises(BadInput, match="does not reach"):
        spec_of(profile_of(("a", "b"), 1))


def test_a_profile_without_sites_is_no_cluster() -> None:
    with pytest.raises(BadInput, match="no sites"):
        spec_of(profile_of().model_copy(update={"sites": {}}))


CLAIM = {
    "metadata": {
        "name": "kept", "namespace": "one", "uid": "u1",
        "annotations": {"volume.kubernetes.io/selected-node": "a-1"},
    },
    "spec": {
        "storageClassName": "folders", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    },
    "status": {"phase": "Pending"},
}  # fmt: skip


def test_a_claim_gets_a_folder_of_the_node_that_its_pod_is_put_on() -> None:
    volume = wanted(CLAIM)
    assert volume is not None
    assert volume["spec"]["local"] == {"path": "/run/volumes/a-1/pvc-u1"}
    assert volume["spec"]["claimRef"]["uid"] == "u1"


@pytest.mark.parametrize(
    "change",
    [
        {"status": {"phase": "Bound"}},
        {"metadata": {**CLAIM["metadata"], "annotations": {}}},
        {"spec": {**CLAIM["spec"], "storageClassName": "other"}},
        {"spec": {**CLAIM["spec"], "volumeMode": "Block"}},
        {"spec": {**CLAIM["spec"], "volumeName": "pvc-u1"}},
    ],
)
def test_other_claims_get_none(change) -> None:
    assert wanted({**CLAIM, **change}) is None


def test_only_volumes_of_ours_that_nobody_claims_go() -> None:
    volume = wanted(CLAIM)
    assert volume is not None
    assert released({**volume, "status": {"phase": "Bound"}}) == ""
    assert released({**volume, "status": {"phase": "Released"}}) == "/run/volumes/a-1/pvc-u1"
    foreign = {**volume, "metadata": {"name": "x"}, "status": {"phase": "Released"}}
    assert released(foreign) == ""
