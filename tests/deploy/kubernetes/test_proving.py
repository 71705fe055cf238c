"""The isolation of a testbed on a cluster, proven: on paper, where policies are read as a cluster reads them."""

from __future__ import annotations

from itertools import groupby

import pytest

from dynamos.deploy.kubernetes.proving import prove, sweep
from dynamos.kit.errors import Broken, Full, NotFound, Refused, TimedOut, Unavailable
from dynamos.middleware.network.openings import Home, Opening, manifest
from dynamos.testbed.proofs.findings import GONE, SHIFTING, SPARE, UNREACHED
from support.paper_clusters import INTERNET, METADATA, PaperCluster
from support.plans import CONTROL, SOUTH, plan

SITES = {"east": {"parties": ["North_One"]}, "west": {"parties": ["south"]}}
LARGE = {"cluster": {"busReplicas": 3, "agents": 2, "orchestrators": 2, "leaves": True}, "sites": SITES}
WAY = ("North_One", "south")


def proven(cluster: PaperCluster, **options):
    found = prove(cluster, CONTROL, (INTERNET, 443), **options)
    assert cluster.left == []
    return found


def cells(found, source, target=""):
    return [cell for cell in found.matrix.cells if cell.source == source and cell.target.startswith(target)]


def opened(cluster: PaperCluster, *ends: str) -> None:
    """Have these parties open their end of the way."""
    for party in ends:
        home = Home(party, CONTROL, plan().parties, "agent-0", "uid")
        senders, receivers = (WAY[:1] if party == WAY[1] else ()), (WAY[1:] if party == WAY[0] else ())
        told = manifest(Opening("way-1", "job", senders, receivers), home)
        cluster.open(home.namespace, told["metadata"]["labels"], **told["spec"])


@pytest.mark.parametrize("members", [{}, LARGE])
def test_the_policies_of_a_testbed_are_what_everybody_expects_of_them(members):
    found = proven(PaperCluster(plan(**members)))
    found.check()
    assert not found.untold
    hails = {cell.source: cell.observed for cell in found.matrix.cells if cell.target == "hail double of south"}
    assert [source for source, through in hails.items() if through] == ["job of south"]
    assert len(hails) > 6
    outsider = cells(found, "outsider")
    reached = {cell.target.split()[0] for cell in outsider if cell.observed}
    assert reached == {"API", "DNS", "kubelet", "node", "metadata", "internet"}
    assert not any(cell.observed for cell in cells(found, "job of south") if not cell.target.startswith("hail"))


def test_every_kind_of_pod_knocks_at_every_pod_that_is_there_and_at_every_service():
    found = proven(PaperCluster(plan()))
    targets = {cell.target for cell in cells(found, "job of south")}
    assert {"agent-0 of south", "job-1 of south", "job-1 of North_One", "bus-0", "orchestrator double"} <= targets
    assert {"service api:80", "service bus:4222", "gateway double", "routes double", "hub double"} <= targets
    assert not {cell.source for cell in cells(found, "job-1 of south")}


def test_a_policy_that_lets_more_through_is_a_leak_with_its_way():
    cluster = PaperCluster(plan())
    way = {"to": [{"ipBlock": {"cidr": f"{METADATA}/32"}}], "ports": [{"protocol": "TCP", "port": 80}]}
    job = {"matchLabels": {"dynamos.dev/role": "job"}}
    cluster.open(SOUTH, podSelector=job, policyTypes=["Egress"], egress=[way])
    found = proven(cluster)
    assert [(cell.source, cell.target) for cell in found.matrix.leaks] == [("job of south", "metadata")]
    with pytest.raises(Broken, match="1 leaks") as caught:
        found.check()
    assert caught.value.exit == 70


def test_without_policies_nearly_everything_is_a_leak():
    cluster = PaperCluster(plan())
    cluster.objects = [each for each in cluster.objects if each["kind"] != "NetworkPolicy"]
    assert len(proven(cluster).matrix.leaks) > 150  # of 250


def test_a_policy_that_is_missing_blocks_what_is_permitted():
    cluster = PaperCluster(plan())
    cluster.remove("NetworkPolicy", SOUTH, "job")
    blocked = {(cell.source, cell.target) for cell in proven(cluster).matrix.blocked}
    assert blocked >= {("agent of south", "job-1 of south"), ("job of south", "hail double of south")}


def test_what_not_even_the_outsider_reaches_is_left_out_and_told_of_but_never_a_leak():
    cluster = PaperCluster(plan())
    cluster.silent |= {METADATA, "192.0.2.11"}
    found = proven(cluster)
    found.check()
    told = {each.target.name: (each.why, each.tries) for each in found.untold}
    assert set(told) == {"metadata", "kubelet of n1", "node n1 by tcp", "node n1 by udp"}
    assert {why for why, _ in told.values()} == {UNREACHED}
    assert not [cell for cell in found.matrix.cells if cell.target in told]
    assert found.as_dict()["untold"][0]["why"] == UNREACHED


def test_an_agent_needs_one_address_of_the_api_server_and_not_all():
    servers = (("10.96.0.1", 443),)
    told = plan()
    cluster = PaperCluster(type(told)(told.profile, told.marketplace, told.images, told.files, told.data, servers))
    found = proven(cluster)
    found.check()
    assert [(each.target.name, each.tries, each.why) for each in found.untold] == [
        ("API server 192.0.2.7:6443", 2, SPARE)
    ]


def test_a_way_that_a_job_has_open_is_permitted_where_both_ends_are():
    cluster = PaperCluster(plan())
    opened(cluster, *WAY)
    found = proven(cluster)
    found.check()
    ways = {(cell.source, cell.observed) for cell in found.matrix.cells if cell.target == "agent-0 of south"}
    assert ("agent of North_One", True) in ways
    one = PaperCluster(plan())
    opened(one, WAY[0])
    found = proven(one)
    found.check()
    assert not [cell for cell in cells(found, "agent of North_One", "agent") if cell.observed]


def test_what_a_job_has_changed_meanwhile_counts_as_nothing():
    cluster = PaperCluster(plan())

    def happens() -> None:
        opened(cluster, *WAY)
        cluster.remove("Pod", SOUTH, "job-1")

    cluster.meanwhile = happens
    found = proven(cluster)
    found.check()
    told = {(each.target.name, each.why) for each in found.untold}
    assert told >= {("agent-0 of south", SHIFTING), ("agent double of south", SHIFTING), ("job-1 of south", GONE)}


def test_what_an_earlier_proof_has_left_that_was_killed_is_removed_first():
    cluster = PaperCluster(plan())
    old = {"dynamos.dev/proof": CONTROL}
    cluster.pod("proof-old-job", SOUTH, old)
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": "p-proof-old", "labels": old}})
    cluster.pod("proof-old-outsider", "p-proof-old", old)
    other = cluster.pod("proof-old-job", "q-south", {"dynamos.dev/proof": "q"})
    before = len(cluster.objects) - 3
    sweep(cluster, CONTROL)
    assert len(cluster.objects) == before
    assert other in cluster.objects


@pytest.mark.parametrize(
    ("kind", "said", "error"),
    [
        ("Namespace", 'namespaces is forbidden: User "eve" cannot create resource', Refused),
        ("Pod", 'pods "x" is forbidden: User "eve" cannot create resource "pods"', Refused),
        ("Pod", 'pods "x" is forbidden: exceeded quota: party, requested: pods=1, used: pods=8', Full),
        ("Pod", "Unable to connect to the server: dial tcp 192.0.2.7:6443: i/o timeout", Unavailable),
    ],
)
def test_what_the_cluster_refuses_is_told_with_a_hint_and_nothing_is_left(kind, said, error):
    cluster = PaperCluster(plan())
    cluster.refusals[kind] = said
    with pytest.raises(error) as caught:
        prove(cluster, CONTROL, (INTERNET, 443))
    assert caught.value.hint
    assert cluster.left == []


PULLS = {"waiting": {"reason": "ImagePullBackOff", "message": "m"}}
WAITS = {"phase": "Pending", "containerStatuses": [{"state": PULLS}]}
NO_ROOM = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}
NOWHERE = {"phase": "Pending", "conditions": [NO_ROOM]}


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (WAITS, Unavailable, "ImagePullBackOff: m"),
        (NOWHERE, TimedOut, "Unschedulable: 0/2 nodes"),
        ({}, TimedOut, "last seen: nothing"),
        ({"phase": "Failed", "reason": "Evicted", "message": "the node was low"}, Unavailable, "Evicted: the node"),
    ],
)
def test_a_pod_that_does_not_start_is_told_of_with_the_reason_and_nothing_is_left(status, error, said):
    cluster = PaperCluster(plan())
    cluster.status = status
    with pytest.raises(error, match=said):
        prove(cluster, CONTROL, (INTERNET, 443), within=0)
    assert cluster.left == []


def test_nothing_is_left_after_an_interrupt():
    cluster = PaperCluster(plan())

    def interrupt() -> None:
        raise KeyboardInterrupt

    cluster.meanwhile = interrupt
    with pytest.raises(KeyboardInterrupt):
        prove(cluster, CONTROL, (INTERNET, 443))
    assert cluster.left == []


def test_a_testbed_that_is_not_on_the_cluster_is_not_found_and_nothing_is_made():
    cluster = PaperCluster()
    before = len(cluster.objects)
    with pytest.raises(NotFound):
        prove(cluster, CONTROL, (INTERNET, 443))
    assert len(cluster.objects) == before


def test_names_of_targets_are_nobody_elses():
    found = proven(PaperCluster(plan(**LARGE)))
    of_one = sorted(cells(found, "outsider"), key=lambda cell: cell.target)
    assert [name for name, each in groupby(of_one, key=lambda cell: cell.target) if len(list(each)) > 1] == []
