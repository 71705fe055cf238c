"""Cables: how a link is laid between two routers in the WAN's box. Scripts are for `sh -e` there. Pure.

Each router's end of a link is a macvlan on a device in the box itself, where the link's queue is, so that a router can
come and go without the rest, and packets keep their order. What is between these two devices depends on the link:

    plain    nothing: they are a pair, for links without delay or loss
    kernel   a second pair, whose ends are joined by redirects, with this kernel's netem on each
    guest    a guest, see `guests`: they are its taps
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Literal

from dynamos.model.networks import Direction
from dynamos.testbed import guests, impairments, launches
from dynamos.testbed.addresses import bare
from dynamos.testbed.items import Link

Kind = Literal["plain", "kernel", "guest"]
LARGEST_MTU = 9216

_ENDS = ("a", "b")
_ROOM = LARGEST_MTU + 100
_WAITING = 4000
_DROP_ALL = "bpf direct-action bytecode '1,6 0 0 2'"
_ALL = "u32 match u32 0 0"


@dataclass(frozen=True, slots=True)
class Cable:
    """How a link is laid: its slot is a small number of its own."""

    link: Link
    slot: int
    kind: Kind

    @property
    def device(self) -> str:
        """The device of the link at both of its routers."""
        return f"wan{self.slot}"

    @property
    def ends(self) -> tuple[str, str]:
        """The devices in the box that carry the link's two ends: whoever listens on one hears both directions."""
        return launches.device(self.slot, "a"), launches.device(self.slot, "b")

    @property
    def guest(self) -> int:
        """The number of the guest that carries it, where one does."""
        return self.slot // launches.PAIRS

    # What a guest does for it

    @property
    def ip(self) -> Sequence[str]:
        """What brings the guest's devices up: a cut link is not brought up again when the guest is."""
        return [] if self.link.state == "cut" else [f"link set {device} up" for device in guests.inside(self.slot)]

    @property
    def tc(self) -> Sequence[str]:
        """What sets the guest's netem."""
        return _ways(self.link, guests.inside(self.slot))

    # Scripts

    def laid(self) -> str:
        """Give the script that lays it, as yet without what the link does to packets."""
        one, other = self.ends
        lines = []
        if self.kind == "plain":
            lines = [f"link add {one} mtu {_ROOM} type veth peer name {other} mtu {_ROOM}"]
        elif self.kind == "kernel":
            lines = [
                f"link add {end} mtu {_ROOM} type veth peer name {inner} mtu {_ROOM}"
                for end, inner in zip(self.ends, self._inner, strict=True)
            ] + [f"link set {inner} up" for inner in self._inner]
        else:
            lines = [f"tuntap add {end} mode tap vnet_hdr" for end in self.ends]
            lines += [f"link set {end} mtu {_ROOM} txqueuelen {_WAITING}" for end in self.ends]
        for number, (end, site) in enumerate(zip(self.ends, self.link.sites, strict=True)):
            lines += [
                f"link set {end} address {self._mac(number)}",
                f"link set {end} up",
                f"link add link {end} name {self.device} netns {site} type macvlan mode passthru",
            ]
        return _ip(lines) + "".join(self._plugged(number) for number in (0, 1)) + _tc(self._hooks())

    def gone(self) -> str:
        """Give the script that removes whatever is left of it."""
        names = [*self.ends, *self._inner]
        return "".join(f"ip link del {name} 2>/dev/null || true\n" for name in names)

    def impaired(self) -> str:
        """Give the script that makes it do to packets what its link says, but for what a guest does."""
        one, other = self.ends
        lines = [*impairments.queue(self.link.forward, one, self.link.mtu)]
        lines += impairments.queue(self.link.backward, other, self.link.mtu)
        if self.kind == "kernel":
            lines += _ways(self.link, self._inner)
        return _tc(lines)

    def sized(self) -> str:
        """Give the script that sets its mtu."""
        return "".join(f"ip -n {quote(site)} link set {self.device} mtu {self.link.mtu}\n" for site in self.link.sites)

    def stated(self) -> str:
        """Give the script that cuts it, silences it or neither, as its link says. What a guest has of it is cut before
        that, and comes up after it."""
        lines = []
        for end in self.ends:
            if self.link.state == "silent":
                lines.append(f"tc filter replace dev {end} egress pref 1 handle 1 protocol all {_DROP_ALL}")
            else:
                lines.append(f"tc filter del dev {end} egress pref 1 2>/dev/null || true")
        # A device of a pair loses its carrier when the other one is down. A tap has to be told, and that alone would
        # be noticed up to a second later. It has its carrier again when the guest takes it up.
        cut = self.link.state == "cut"
        if cut and self.kind == "guest":
            lines += [f"ip link set {end} carrier off" for end in self.ends]
        names = self._inner if self.kind == "kernel" else self.ends
        lines += [f"ip link set {name} {'down' if cut else 'up'}" for name in names]
        return "".join(f"{line}\n" for line in lines)

    @property
    def _inner(self) -> tuple[str, str]:
        return f"m{self.slot}a", f"m{self.slot}b"

    def _plugged(self, number: int) -> str:
        """Give the script that sets a router's end up. It knows the other end, so that nobody has to ask for it."""
        peer = bare(self.link.addresses[1 - number])
        lines = [
            f"link set {self.device} mtu {self.link.mtu} up",
            f"addr replace {self.link.addresses[number]} dev {self.device}",
            f"neigh replace {peer} lladdr {self._mac(1 - number)} dev {self.device} nud permanent",
        ]
        return f"ip -n {quote(self.link.sites[number])} -batch - <<'END'\n" + "\n".join(lines) + "\nEND\n"

    def _hooks(self) -> list[str]:
        lines = [f"qdisc add dev {end} clsact" for end in self.ends]
        if self.kind == "kernel":
            for here, there in (self._inner, self._inner[::-1]):
                send = f"action mirred egress redirect dev {there}"
                lines.append(f"qdisc add dev {here} clsact")
                lines.append(f"filter add dev {here} ingress pref 1 protocol all {_ALL} {send}")
        return lines

    def _mac(self, number: int) -> str:
        return f"02:00:00:{self.slot >> 8:02x}:{self.slot & 255:02x}:0{number + 1}"


def needs_netem(link: Link) -> bool:
    """Tell whether a link does something that only netem can do."""
    return any(impairments.needs_netem(direction) for direction in (link.forward, link.backward))


def _ways(link: Link, devices: tuple[str, str]) -> list[str]:
    """Give the lines for netem: what goes to the second site leaves by the second device."""
    directions: tuple[Direction, Direction] = (link.backward, link.forward)
    return [line for device, way in zip(devices, directions, strict=True) for line in impairments.way(way, device)]


def _ip(lines: Sequence[str]) -> str:
    return "ip -batch - <<'END'\n" + "\n".join(lines) + "\nEND\n"


def _tc(lines: Sequence[str]) -> str:
    return "tc -batch - <<'END'\n" + "\n".join(lines) + "\nEND\n"
