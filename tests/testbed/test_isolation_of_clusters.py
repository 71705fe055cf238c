"""Who reaches whom on a cluster: what policy says of each pod and target, and how tries are told apart."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dynamos.kit.errors import Broken
from dynamos.testbed.hosts import Completed
from dynamos.testbed.proofs import programs
from dynamos.testbed.proofs.clusters import Occasion, Spot, Target, expectations, isolation

SPOTS = (
    Spot("leaf", "leaf"),
    Spot("agent of klm", "agent", "klm"),
    Spot("job of klm", "job", "klm"),
    Spot("api", "api"),
    Spot("orchestrator", "orchestrator"),
    Spot("bus", "bus"),
    Spot("outsider", "outsider"),
)
AGENT_OF_KLM, JOB_OF_KLM = SPOTS[1:3]


def targets(address: str = "192.0.2.1") -> tuple[Target, ...]:
    kinds = [
        ("agent of united", "agent", "united"), ("job of klm", "job", "klm"), ("job of united", "job", "united"),
        ("api", "api", ""), ("gateway", "gateway", ""), ("bus", "bus", ""), ("dns", "dns", ""),
        ("api server", "api-server", ""), ("kubelet", "kubelet", ""), ("node", "node", ""), ("metadata", "world", ""),
        ("hail of klm", "hail", "klm"), ("hail of united", "hail", "united"), ("leaf", "leaf", ""), ("hub", "hub", ""),
        ("routes", "routes", ""), ("orchestrators", "orchestrator", ""),
    ]  # fmt: skip
    return tuple(Target(name, kind, address, 1, party) for name, kind, party in kinds)  # type: ignore[arg-type]


def allowed(*ways: tuple[str, str]) -> set[tuple[str, str]]:
    told = expectations(Occasion(SPOTS, targets(), frozenset(ways)))
    return {(each.flow.source, each.flow.target) for _, _, each in told if each.allowed}


EVERYBODY = {(name, what) for name in ("agent of klm", "api", "orchestrator") for what in ("bus", "dns")}
AGENT = {("agent of klm", what) for what in ("job of klm", "gateway", "api server", "leaf")}
SERVERS = {("bus", "dns"), ("bus", "routes"), ("leaf", "dns"), ("leaf", "hub"), ("job of klm", "hail of klm")}
OUTSIDER = {("outsider", what) for what in ("dns", "api server", "kubelet", "node", "metadata")}


def test_everybody_reaches_what_the_marketplace_needs_to_stand_and_a_job_its_own_agents_hail():
    assert allowed() == EVERYBODY | AGENT | OUTSIDER | SERVERS


def test_an_agent_reaches_another_while_a_job_has_opened_the_way_and_in_that_direction():
    assert allowed(("klm", "united")) - allowed() == {("agent of klm", "agent of united")}
    assert allowed(("united", "klm")) == allowed()
    assert allowed(("klm", "anglo")) == allowed()


def test_nobody_knocks_at_an_address_of_its_own():
    own = Target("service of klm", "agent", "192.0.2.1", 1, "klm", spot="agent of klm")
    told = expectations(Occasion(SPOTS, (own,)))
    assert "agent of klm" not in {each.flow.source for _, _, each in told}
    assert len(told) == len(SPOTS) - 1


@dataclass
class Here:
    """This machine, as the pod that knocks."""

    name: str
    site: str = ""

    def run(self, argv, *, stdin=None, check=True, within=30.0):
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=within, check=False)
        return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def listening(kind: int = socket.SOCK_STREAM) -> Iterator[int]:
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            server.listen()
        yield server.getsockname()[1]


def unserved() -> int:
    with listening() as port:
        return port


def tried(spot: Spot, target: Target, patience: float = 0.2):
    matrix = isolation(Occasion((spot,), (target,)), {spot.name: Here(spot.name)}, patience=patience)
    return matrix.cells[0]


def test_what_gets_through_though_nothing_permits_it_is_a_leak_with_evidence():
    with listening() as port:
        cell = tried(JOB_OF_KLM, Target("bus", "bus", "127.0.0.1", port))
    assert (cell.verdict, cell.evidence) == ("leak", "connected")
    assert cell.why.startswith("a job's pod has no way out but its hail")


def test_what_is_permitted_and_gets_through_is_right():
    with listening() as port:
        assert tried(AGENT_OF_KLM, Target("bus", "bus", "127.0.0.1", port)).verdict == "ok"


def test_what_is_permitted_and_does_not_get_through_is_blocked():
    assert tried(AGENT_OF_KLM, Target("bus", "bus", "127.0.0.1", unserved())).verdict == "blocked"


def test_a_hail_is_told_by_the_answer_of_whoever_listens_as_proofs_do():
    with listening(socket.SOCK_DGRAM) as port:
        told = {"ports": [["udp", port]], "told": "/dev/stdout"}
    argv = [sys.executable, "-I", "-S", "-c", programs.text("listen"), json.dumps(told)]
    hails = [Target(f"hail of {party}", "hail", "127.0.0.1", port, party, "udp") for party in ("klm", "united")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as listener:
        try:
            assert listener.stdout.readline() == b"ready\n"
            own, other = (tried(JOB_OF_KLM, hail, patience=10) for hail in hails)
        finally:
            listener.terminate()
    assert (own.verdict, own.evidence) == ("ok", "answered")
    assert (other.verdict, other.evidence) == ("leak", "answered")
    assert tried(JOB_OF_KLM, hails[0]).verdict == "blocked"


@dataclass
class Bare(Here):
    """A pod without a shell."""

    python: tuple[str, ...] = (sys.executable,)

    def run(self, argv, **options):
        assert "sh" not in argv
        return super().run(argv, **options)


def test_a_host_without_a_shell_starts_python_itself():
    with listening() as port:
        occasion = Occasion((AGENT_OF_KLM,), (Target("bus", "bus", "127.0.0.1", port),))
        matrix = isolation(occasion, {AGENT_OF_KLM.name: Bare("bare")}, patience=0.2)
    assert matrix.cells[0].observed


def test_addresses_of_ipv6_are_knocked_at():
    with socket.socket(socket.AF_INET6) as server:
        try:
            server.bind(("::1", 0))
        except OSError:
            pytest.skip("there is no IPv6 here")
        server.listen()
        assert tried(AGENT_OF_KLM, Target("bus", "bus", "::1", server.getsockname()[1])).observed


@pytest.mark.parametrize(("served", "verdict"), [(False, "leak"), (True, "ok")])
def test_a_refusal_tells_of_a_kernel_that_was_reached_but_where_somebody_listens_of_a_filter(served, verdict):
    target = Target("node", "node", "127.0.0.1", unserved(), served=served)
    assert tried(JOB_OF_KLM, target).verdict == verdict


def test_a_host_that_does_not_say_what_came_of_all_tries_is_not_believed():
    class Silent(Here):
        def run(self, argv, **_):
            return Completed(tuple(argv), 0, b"[]", b"")

    with pytest.raises(Broken, match="knock told of 0 tries"):
        isolation(Occasion(SPOTS[:1], targets()), {SPOTS[0].name: Silent("silent")})
