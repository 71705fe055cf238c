"""Traits of overlays that a profile is checked against: what each driver adds to a packet, and its options.

The one place that says so: the drivers take their capabilities from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dynamos.model.networks import DriverName

SMALLEST_MTU = 576
"""What every network carries of IPv4 (RFC 791)."""

_PORT = r"[1-9][0-9]{0,4}"
_SECONDS = r"[0-9]{1,5}"


@dataclass(frozen=True, slots=True)
class Traits:
    """What a driver is, machine and installed programs aside.

    `layer` is 2, 3 or 4. `overhead` is the most that it adds to a packet, in bytes, over IPv4. `options` are those that
    a profile may set, each with the pattern of its values. `largest` is the largest packet that it takes, however much
    the underlay carries.
    """

    layer: int
    encrypts: bool
    overhead: int
    options: Mapping[str, str] = field(default_factory=dict)
    largest: int = 65535


TRAITS: Mapping[DriverName, Traits] = {
    "none": Traits(3, encrypts=False, overhead=0),
    # IPv4 20, UDP 8, VXLAN 8, the inner Ethernet header 14 (RFC 7348)
    "vxlan": Traits(2, encrypts=False, overhead=50, options={"port": _PORT}),
    "evpn": Traits(2, encrypts=False, overhead=50, options={"port": _PORT}),
    # 60 over IPv4 (20 + 8 + 32); 80 is what its own tools take, so that an underlay of IPv6 fits as well
    "wireguard": Traits(3, encrypts=True, overhead=80, options={"port": _PORT, "keepalive": _SECONDS}),
    # IPv4 20, UDP 8, ESP 8, IV 8, padding and trailer up to 17, tag 16 (RFC 4303 and 3948, AES-GCM); strongSwan's own
    # ESP reads 1400 bytes of a packet, and no more
    "ipsec": Traits(
        3,
        encrypts=True,
        overhead=80,
        options={"cipher": "aes256gcm16|aes128gcm16|chacha20poly1305"},
        largest=1400,
    ),
    # IPv4 20, UDP 8, header 16, tag 16
    "nebula": Traits(3, encrypts=True, overhead=60, options={"port": _PORT, "cipher": "aes|chachapoly"}),
    # IPv4 20, TCP 20 (UDP 8), opcode and peer 4, packet number 4, tag 16, length 2
    "openvpn": Traits(
        3,
        encrypts=True,
        overhead=66,
        options={"port": _PORT, "protocol": "udp|tcp", "cipher": "AES-256-GCM|AES-128-GCM|CHACHA20-POLY1305"},
    ),
    # a proxy ends each connection: nothing is added to a packet of the container's
    "mtls": Traits(4, encrypts=True, overhead=0, options={"port": _PORT}),
}


def inner_mtu(driver: DriverName, underlay: int) -> int:
    """Give the largest packet that fits into the overlay where the underlay carries `underlay` bytes."""
    traits = TRAITS[driver]
    return min(underlay - traits.overhead, traits.largest)
