"""Edges: who may talk to whom, as rules of the kernel in the container itself (nftables). All else is dropped and
counted.

A stream goes from a party's container to port `PORT` of another's. A way is open at both of its ends or it is closed:
the sender's rules let packets out to the peer, the receiver's let packets in from it. Connections are not tracked: a
way that is closed again takes the connections that used it with it. Pure, but for `Rules`, which applies it.

Whoever knocks at the port without a way is told so at once (a reset), since the two ends of a way do not open in the
same moment, and a sender that got no answer would try again only after a second. Probes (ping, a few a second) get
through, so that networks can be measured; so do the errors that path MTU discovery needs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from dynamos.kit.errors import BadInput, NotFound
from dynamos.middleware.network.messages import EXCHANGE_PORT, Passed
from dynamos.model.plans import REQUESTOR, Part
from dynamos.testbed.hosts import Host

TABLE = "edges"
PORT = EXCHANGE_PORT
_PROBES = "50/second"
_ERRORS = "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept"
_NOT_FIRST = "tcp flags & (fin | syn | rst | ack) != syn"


@dataclass(frozen=True, slots=True)
class Ways:
    """The addresses that a container may get streams from, and send them to."""

    senders: frozenset[str] = frozenset()
    receivers: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.senders or self.receivers)


def ways_of(part: Part, addresses: Mapping[str, Iterable[str]]) -> Ways:
    """Give the ways that a part of a plan needs; `addresses` are those of each party in the networks of this one.

    Raises NotFound where a party has none. Results to the requestor do not go by containers.
    """
    senders = {address for edge in part.incoming for address in _of(edge.source_party, addresses)}
    targets = (edge.target_party for edge in part.outgoing if edge.target_party != REQUESTOR)
    receivers = {address for target in targets for address in _of(target, addresses)}
    return Ways(frozenset(senders), frozenset(receivers))


def closed() -> str:
    """Give the rules of a container without any way, whatever was there before."""
    return f"""table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  set senders {{ type ipv4_addr; counter; }}
  set receivers {{ type ipv4_addr; counter; }}
  counter refused {{ }}
  counter dropped_in {{ }}
  counter dropped_out {{ }}
  chain in {{
    type filter hook input priority 0; policy drop;
    iif lo accept
    tcp dport {PORT} ip saddr @senders accept
    tcp sport {PORT} {_NOT_FIRST} ip saddr @receivers accept
    {_ERRORS}
    icmp type {{ echo-request, echo-reply }} limit rate {_PROBES} accept
    tcp dport {PORT} tcp flags & (fin | syn | rst | ack) == syn counter name refused reject with tcp reset
    counter name dropped_in drop
  }}
  chain out {{
    type filter hook output priority 0; policy drop;
    oif lo accept
    tcp dport {PORT} ip daddr @receivers accept
    tcp sport {PORT} {_NOT_FIRST} ip daddr @senders accept
    tcp sport {PORT} tcp flags & rst == rst accept
    {_ERRORS}
    icmp type {{ echo-request, echo-reply }} limit rate {_PROBES} accept
    counter name dropped_out drop
  }}
}}
"""


def changed(opened: Ways, shut: Ways) -> str:
    """Give what opens some ways and closes others; nothing where there are none."""
    lines = [
        f"{verb} element inet {TABLE} {name} {{ {', '.join(sorted(addresses, key=IPv4Address))} }}"
        for verb, ways in (("add", opened), ("delete", shut))
        for name, addresses in (("senders", ways.senders), ("receivers", ways.receivers))
        if addresses
    ]
    return "".join(f"{line}\n" for line in lines)


def passed(listing: str) -> Passed:
    """Read the counters in what `nft -j list table` prints."""
    counts: dict[str, int] = {}
    sets: dict[str, dict[str, int]] = {}
    for each in json.loads(listing)["nftables"]:
        if counter := each.get("counter"):
            counts[counter["name"]] = int(counter["packets"])
        elif found := each.get("set"):
            elements = (element["elem"] for element in found.get("elem", ()) if "elem" in element)
            sets[found["name"]] = {element["val"]: int(element["counter"]["packets"]) for element in elements}
    return Passed(
        received=sets.get("senders", {}),
        sent=sets.get("receivers", {}),
        refused=counts.get("refused", 0),
        dropped_in=counts.get("dropped_in", 0),
        dropped_out=counts.get("dropped_out", 0),
    )


@dataclass(slots=True)
class Rules:
    """The rules in one container. For one thread at a time. A way that two jobs need stays until both have closed it.

    `lay` comes first. What is written down here is what the kernel has, as long as nobody else writes these rules.
    """

    container: Host
    _jobs: dict[str, Ways] = field(default_factory=dict)
    _senders: Counter[str] = field(default_factory=Counter)
    _receivers: Counter[str] = field(default_factory=Counter)

    def lay(self) -> None:
        """Close all ways. Raises JobFailed, NotFound."""
        self.container.run(["nft", "-f", "-"], stdin=closed().encode())
        self._jobs.clear()
        self._senders.clear()
        self._receivers.clear()

    def open(self, job: str, ways: Ways) -> None:
        """Open the ways of a job, which stay open until `shut`. Does nothing where they are open."""
        if job in self._jobs:
            return
        new = Ways(ways.senders - self._senders.keys(), ways.receivers - self._receivers.keys())
        self._apply(changed(new, Ways()))
        self._jobs[job] = ways
        self._senders.update(ways.senders)
        self._receivers.update(ways.receivers)

    def shut(self, job: str) -> None:
        """Close the ways of a job. Does nothing where it has none."""
        ways = self._jobs.pop(job, None)
        if ways is None:
            return
        for counter, addresses in ((self._senders, ways.senders), (self._receivers, ways.receivers)):
            counter.subtract(addresses)
        gone = Ways(_unused(self._senders, ways.senders), _unused(self._receivers, ways.receivers))
        self._apply(changed(Ways(), gone))

    def passed(self) -> Passed:
        """Give what has been counted so far."""
        return passed(self.container.run(["nft", "-j", "list", "table", "inet", TABLE]).text)

    def _apply(self, script: str) -> None:
        if script:
            self.container.run(["nft", "-f", "-"], stdin=script.encode())


def _unused(counter: Counter[str], addresses: Iterable[str]) -> frozenset[str]:
    unused = frozenset(address for address in addresses if counter[address] <= 0)
    for address in unused:
        del counter[address]
    return unused


def _of(party: str, addresses: Mapping[str, Iterable[str]]) -> Sequence[str]:
    found = list(addresses.get(party, ()))
    if not found:
        raise NotFound(f"no network of this container has {party!r}", code="no-network")
    for address in found:
        try:
            IPv4Address(address)
        except ValueError:
            raise BadInput(f"{address!r} is no address", where=party) from None
    return found
