"""Subnets: the ranges that a testbed's addresses are from. All of them are its own, inside namespaces; what the host
uses does not matter."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, Any

from pydantic import BeforeValidator

from dynamos.model.values import Value


def _network(value: Any) -> Any:
    if isinstance(value, IPv4Network):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a range of IPv4 addresses like '10.64.0.0/12'")  # noqa: TRY004  pydantic's word
    try:
        network = IPv4Network(value, strict=False)
    except ValueError:
        network = None
    if network is None or "/" not in value:
        raise ValueError(f"{value!r} is not a range of IPv4 addresses like '10.64.0.0/12'")
    if str(network.network_address) != value.partition("/")[0]:
        raise ValueError(f"{value!r} does not begin where its range does; write {str(network)!r}")
    odd = ("loopback", "multicast", "link_local", "unspecified")
    wrong = next((word for word in odd if getattr(network, f"is_{word}")), "")
    if wrong or network.overlaps(_RESERVED) or network.overlaps(_THIS):
        raise ValueError(f"{value!r} holds addresses that no machine can have")
    return network


_RESERVED, _THIS = IPv4Network("240.0.0.0/4"), IPv4Network("0.0.0.0/8")
Network = Annotated[IPv4Network, BeforeValidator(_network)]


class Subnets(Value):
    """Ranges of addresses.

    `wan`: half for the sites' networks, a /24 for each; half for the links, a /30 for each. `containers`: a /24 for the
    containers on each node. `marketplace`: the overlay of all, a /24 for each site. `groups`: a /22 for
    the overlay of each. `requests`: a /26 for the overlay of each. The default of `wan` is the range for benchmarks
    (RFC 2544).
    """

    wan: Network = IPv4Network("198.18.0.0/15")
    containers: Network = IPv4Network("10.64.0.0/12")
    marketplace: Network = IPv4Network("10.80.0.0/16")
    groups: Network = IPv4Network("10.96.0.0/12")
    requests: Network = IPv4Network("10.112.0.0/12")
