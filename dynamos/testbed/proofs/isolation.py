"""Isolation: who reaches whom in a testbed, expected by policy against observed by trying.

Every container listens, and everybody knocks at everybody. A try counts as through when the other side has answered,
or when the listener there has heard it, though its answer was lost. A refusal counts too where nobody listens: the
other side's kernel was asked. Where somebody does, it was a filter that refused.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence

from dynamos.kit.errors import DynamosError
from dynamos.testbed.hosts import Host
from dynamos.testbed.proofs import forgeries, programs
from dynamos.testbed.proofs.forgeries import Forgery
from dynamos.testbed.proofs.matrices import Cell, Matrix
from dynamos.testbed.proofs.policies import Expectation, Flow, Situation, expectations
from dynamos.testbed.proofs.programs import Started, started, together

EXCHANGE, OTHER = 8815, 9
"""The port that parties exchange at, and one that nobody is to serve (RFC 863)."""
PATIENCE = 3.0
"""Seconds until a try counts as not through: longer than any round trip, with some tries lost."""
_FORGED_SECONDS, _LOOK_SECONDS = 1.0, 0.05
_SPARE_SECONDS = 60.0
_LATER = 3
"""How much longer whoever should get through is waited for: machines are busy, and packets get lost."""

Tokens = Mapping[Flow, str]
Ports = set[tuple[str, int]]


def isolation(
    situation: Situation,
    hosts: Mapping[str, Host],
    *,
    phase: str = "now",
    exchange: int = EXCHANGE,
    other: int = OTHER,
    patience: float = PATIENCE,
) -> Matrix:
    """Try everything that policy has an opinion on, all at once, and give what happened.

    `hosts` are the containers, nodes and outsiders of the situation by name; who is not among them is not tried.
    """
    expected = [each for each in expectations(situation, exchange=exchange, other=other) if each.flow.source in hosts]
    tokens = {each.flow: secrets.token_hex(8) for each in expected}
    outsiders = [name for name in (*situation.nodes, *situation.outsiders) if name in hosts]
    forged = forgeries.forgeries(situation.live, outsiders)
    ports = [("tcp", exchange), ("tcp", other), ("udp", exchange), ("udp", other)]
    listening = [(hosts[name], {"ports": ports}) for name in situation.containers if name in hosts]
    with started("listen", listening) as listeners:
        busy = {program.host.name: _busy(program) for program in listeners}
        forgeries.send(forged, hosts, other)
        sent = time.monotonic()
        answers = _knock(tokens, hosts, busy, patience)
        late = {each.flow: tokens[each.flow] for each in expected if each.allowed and not answers[each.flow]}
        answers |= _knock(late, hosts, busy, _LATER * patience)
        heard = _heard(listeners, {each.token for each in forged}, until=sent + _FORGED_SECONDS if forged else 0.0)
    for flow in [flow for flow, answer in answers.items() if answer == "refused" and flow.target in busy]:
        answers[flow] = ""
    cells = [_cell(phase, each, answers[each.flow], tokens[each.flow] in heard) for each in expected]
    return Matrix((*cells, *(_forged(phase, each, other, each.token in heard) for each in forged)))


def _knock(tokens: Tokens, hosts: Mapping[str, Host], busy: Mapping[str, Ports], patience: float) -> dict[Flow, str]:
    """Have every source knock, all at once, and give what came back of each try; empty where nothing did."""
    by_source: dict[str, list[Flow]] = {}
    for flow in tokens:
        by_source.setdefault(flow.source, []).append(flow)

    def knock(source: str) -> Iterator[tuple[Flow, str]]:
        flows = by_source[source]
        spec = {"patience": patience, "knocks": [_spec(flow, tokens[flow], busy) for flow in flows]}
        told = programs.answers(hosts[source], "knock", spec, within=patience + _SPARE_SECONDS)
        return zip(flows, told, strict=True)

    return {flow: answer for found in together(knock, by_source) for flow, answer in found}


def _spec(flow: Flow, token: str, busy: Mapping[str, Ports]) -> dict[str, object]:
    tls = (flow.protocol, flow.port) in busy.get(flow.target, set())
    return {"address": flow.address, "protocol": flow.protocol, "port": flow.port, "token": token, "tls": tls}


def _busy(program: Started) -> Ports:
    """Give the ports that somebody else serves already: they are asked as TLS is."""
    lines = (line.split() for line in program.told().splitlines())
    return {(words[1], int(words[2])) for words in lines if words[0] == "busy"}


def _heard(listeners: Sequence[Started], forged: set[str], *, until: float) -> set[str]:
    """Give the tokens that got to a listener; forged ones may be on their way `until` then."""
    while True:
        heard = {token for found in together(_tokens, listeners) for token in found}
        if forged <= heard or time.monotonic() >= until:
            return heard
        time.sleep(_LOOK_SECONDS)


def _tokens(program: Started) -> set[str]:
    try:
        told = program.told()
    except DynamosError:
        return set()  # its host has ended meanwhile
    return {words[2] for words in map(str.split, told.splitlines()) if words[0] in ("tcp", "udp")}


def _cell(phase: str, each: Expectation, answer: str, heard: bool) -> Cell:
    flow, unanswered = each.flow, "heard there, though no answer came back" if heard else ""
    evidence = {"": unanswered, "refused": "refused by its kernel"}.get(answer, "answered")
    return Cell(
        phase=phase,
        source=flow.source,
        target=flow.target,
        address=flow.address,
        protocol=flow.protocol,
        port=flow.port,
        expected=each.allowed,
        observed=bool(answer) or heard,
        why=each.why,
        evidence=evidence,
    )


def _forged(phase: str, each: Forgery, port: int, heard: bool) -> Cell:
    return Cell(
        phase=phase,
        source=each.outsider,
        target=each.seat.container,
        address=each.seat.address,
        protocol="forged",
        port=port,
        expected=False,
        observed=heard,
        why=f"{each.outsider} is not in {each.overlay.name}",
        evidence=f"a packet forged for number {each.overlay.number} was heard there" if heard else "",
    )
