"""From pods, namespaces and policies to the rules of one node, as text for `nft -f`. Pure; only the standard library.

Each pod is guarded on its own node: what it sends by its egress, before what reaches it by its ingress, in two chains
of the forward hook. What it sends to its node itself passes the same egress. Probes come from the node and pass no
forward hook. Replies of a connection pass; what goes the way that the connection was made is looked at packet for
packet, so that a connection ends with the policy that let it be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cluster.policies.things import Labels, Pod, matches

TABLE = "tests_policies"
Policy = Mapping[str, Any]
_REFUSED = (
    "meta l4proto tcp ct state established reject with tcp reset",
    "reject with icmp type admin-prohibited",
)


def ruleset(node: str, pods: Sequence[Pod], namespaces: Mapping[str, Labels], policies: Sequence[Policy]) -> str:
    """Give the whole table of a node, to replace the one that is there. Equal arguments give equal text."""
    known = sorted(pods, key=lambda pod: (pod.namespace, pod.name))
    chains: dict[str, list[str]] = {}
    jumps: dict[str, dict[str, str]] = {"Ingress": {}, "Egress": {}}
    for pod in known:
        if pod.node != node:
            continue
        for way, isolated in jumps.items():
            applied = [each for each in policies if _applies(each, pod, way)]
            if applied:
                rules = [rule for each in applied for rule in _rules(each, pod, way, known, namespaces)]
                isolated[pod.address] = _chain(way, pod)
                chains[_chain(way, pod)] = [*dict.fromkeys(rules), *_REFUSED]
    return _table(chains, jumps)


def _applies(policy: Policy, pod: Pod, way: str) -> bool:
    spec = policy.get("spec", {})
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    own = policy["metadata"]["namespace"] == pod.namespace
    return own and way in types and matches(spec.get("podSelector") or {}, pod.labels)


def _rules(policy: Policy, pod: Pod, way: str, pods: Sequence[Pod], namespaces: Mapping[str, Labels]) -> Iterator[str]:
    """Give the rules that let through what a policy allows a pod in one direction."""
    side, peers_of = ("saddr", "from") if way == "Ingress" else ("daddr", "to")
    for rule in policy.get("spec", {}).get(way.lower()) or ():
        ports, peers = rule.get("ports") or (), rule.get(peers_of) or ()
        selected = [peer for peer in pods if any(_is_peer(each, peer, policy, namespaces) for each in peers)]
        blocks = [_block(each["ipBlock"], side) for each in peers if each.get("ipBlock")]
        places = [] if peers else [""]
        if selected:
            places.append(f"ip {side} {{ {', '.join(sorted({peer.address for peer in selected}))} }} ")
        named = [port for port in ports if isinstance(port.get("port"), str)]
        plain = _numbers(port for port in ports if port not in named)
        wanted = plain if ports else [""]
        if way == "Ingress":
            wanted += _numbers(_resolved(named, pod))
        yield from (f"{place}{port}accept" for place in (*places, *blocks) for port in wanted)
        if way == "Egress" and named:
            for peer in selected if peers else pods:
                yield from (f"ip daddr {peer.address} {port}accept" for port in _numbers(_resolved(named, peer)))


def _is_peer(peer: Mapping[str, Any], pod: Pod, policy: Policy, namespaces: Mapping[str, Labels]) -> bool:
    spaces, chosen = peer.get("namespaceSelector"), peer.get("podSelector")
    if spaces is None and chosen is None:
        return False
    if spaces is None:
        if pod.namespace != policy["metadata"]["namespace"]:
            return False
    elif not matches(spaces, namespaces.get(pod.namespace, {})) or pod.namespace not in namespaces:
        return False
    return matches(chosen or {}, pod.labels)


def _block(block: Mapping[str, Any], side: str) -> str:
    excepted = "".join(f"ip {side} != {each} " for each in block.get("except") or ())
    return f"ip {side} {block['cidr']} {excepted}"


def _numbers(ports: Any) -> list[str]:
    """Give, for each port, what a packet to it matches. Without a number it is every port of the protocol."""
    found = []
    for port in ports:
        protocol, number, last = port.get("protocol", "TCP").lower(), port.get("port"), port.get("endPort")
        if number is None:
            found.append(f"meta l4proto {protocol} ")
        else:
            found.append(f"{protocol} dport {number}{f'-{last}' if last else ''} ")
    return found


def _resolved(named: Sequence[Mapping[str, Any]], pod: Pod) -> list[dict[str, Any]]:
    """Give the numbers that named ports have at a pod."""
    return [
        {"protocol": own.protocol, "port": own.number}
        for port in named
        for own in pod.ports
        if own.name == port["port"] and own.protocol == port.get("protocol", "TCP")
    ]


def _chain(way: str, pod: Pod) -> str:
    mark = hashlib.sha256(f"{pod.namespace}/{pod.name}".encode()).hexdigest()[:16]
    return f"{way.lower()}_{mark}"


def _table(chains: Mapping[str, Sequence[str]], jumps: Mapping[str, Mapping[str, str]]) -> str:
    lines = [f"table ip {TABLE}", f"delete table ip {TABLE}", f"table ip {TABLE} {{"]
    for name, rules in chains.items():
        lines += [f"  chain {name} {{", *(f"    {rule}" for rule in rules), "  }"]
    for name, hook, priority, way, side in (
        ("sent", "forward", -1, "Egress", "saddr"),
        ("sent_to_node", "input", -1, "Egress", "saddr"),
        ("received", "forward", 0, "Ingress", "daddr"),
    ):
        lines += [
            f"  chain {name} {{",
            f"    type filter hook {hook} priority {priority}; policy accept;",
            "    ct state related accept",
            "    ct direction reply ct state established accept",
        ]
        if jumps[way]:
            pairs = ", ".join(f"{address} : jump {chain}" for address, chain in sorted(jumps[way].items()))
            lines.append(f"    ip {side} vmap {{ {pairs} }}")
        lines.append("  }")
    return "\n".join([*lines, "}", ""])
