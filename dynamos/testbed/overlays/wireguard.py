"""The overlay `wireguard`: WireGuard from container to container, by the kernel where it has it, else by wireguard-go.

A member is its public key, and what it sends has its own address and no other (`allowed-ips`): nobody can take another
member's part. A private key stays in a file at its node, and reaches the device by `wg` alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dynamos.testbed.overlays import endpoints, materials, scripts, tunnels
from dynamos.testbed.overlays.drivers import Member, Network, capabilities_of
from dynamos.testbed.overlays.endpoints import Endpoint
from dynamos.testbed.overlays.tunnels import SingleTunnel

_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
_SOCKETS = "/run/wireguard"


class Wireguard(SingleTunnel):
    """WireGuard, a full mesh."""

    name = "wireguard"
    capabilities = capabilities_of(
        "wireguard",
        {"wireguard-go": "wireguard-go", "wg": "wireguard-tools", **tunnels.PROGRAMS},
        ("tun",),
    )
    first_port = 51820

    def unreached(self, network: Network, member: Member, peers: Sequence[Member]) -> list[str]:
        """Probe, after the peers that are first by name have called: where both call at once neither answers, and it
        takes 5 s until they call again."""
        earlier = [peer.address for peer in peers if peer.name < member.name]
        if earlier:
            scripts.run(member.gateway, _hearing(self._end(network, member), earlier))
        return super().unreached(network, member, peers)

    def _keys(self, _: Endpoint) -> str:
        return (
            "if ! [ -s private ]; then wg genkey > private.new; mv private.new private; fi\n"
            "echo public-key $(wg pubkey < private)\n"
        )

    def _files(self, end: Endpoint, port: int, others: Sequence[materials.Peer]) -> Mapping[str, str]:
        keepalive = end.network.options.get("keepalive", "off")
        peers = "".join(
            f"[Peer]\nPublicKey = {peer.text('public-key', _public_key)}\n"
            f"Endpoint = {peer.underlay}:{peer.text('port', materials.port)}\n"
            f"AllowedIPs = {peer.address}/32\nPersistentKeepalive = {keepalive}\n"
            for peer in others
        )
        private = "echo PrivateKey = $(cat private)"
        settle = (
            endpoints.until(f"wg show {end.device} >/dev/null 2>&1", "there is no device of WireGuard")
            + "sh -eu ./apply\n"
            + endpoints.moving(end, end.device)
            + _GREETING
        )
        return {
            "peers": peers,
            "find": _finding(end),
            "apply": f". ./find\n{{ echo '[Interface]'; echo ListenPort = {port}; {private}; cat peers; }} "
            "| $wg syncconf $device /dev/stdin\n",
            "settle": endpoints.settling(settle),
            "run": endpoints.running(end, "$daemon", before=_choosing(end)),
        }

    def _reloading(self, _: Endpoint) -> str:
        return "sh -eu ./apply\n"

    def _undoing(self, end: Endpoint) -> Sequence[str]:
        return [f"rm -f {_socket(end)}", f"rmdir {_SOCKETS}"]

    def _remains(self, end: Endpoint) -> Sequence[str]:
        return [f"ls {_socket(end)}"]


def _choosing(end: Endpoint) -> str:
    """Give the lines that make the kernel's device where there is such a thing, and say what the daemon is.

    The kernel's device needs none; something stands for it, so that either way the device is there again when it ends.
    """
    return (
        f"rm -f {_socket(end)}\n"
        f"ip -n {end.box} link del {end.network.name} 2>/dev/null || true\n"
        f"ip link del {end.device} 2>/dev/null || true\n"
        f"if ip link add {end.device} type wireguard 2>/dev/null; then daemon='sleep infinity'\n"
        f"else daemon='wireguard-go -f {end.device}'; fi\n"
    )


def _finding(end: Endpoint) -> str:
    """Give the lines that say how `wg` gets at the device: wireguard-go listens at the node for good, the kernel's own
    device is where it has moved to."""
    return (
        f"wg=wg device={end.device}\n"
        f"if ! wg show {end.device} >/dev/null 2>&1; then "
        f"wg='ip netns exec {end.box} wg' device={end.network.name}; fi\n"
    )


_GREETING = """\
if [ -e greeted ]; then
. ./find
for peer in $($wg show $device peers); do $wg set $device peer $peer persistent-keepalive 1; done
sh -eu ./apply
fi
: > greeted
"""
"""Lines by which a device that is there again says so to its peers: they would go on with the old session for 15 s. The
first time nobody is greeted, for who is not there yet would be called again only after 5 s."""


def _hearing(end: Endpoint, addresses: Sequence[str]) -> str:
    """Give a script that waits up to a second until all who have these addresses have been heard."""
    silent = " || ".join(f'[ "${{told#*/{address}/32/0/}}" != "$told" ]' for address in addresses)
    return (
        f"cd {end.folder}\n. ./find\nn=0\nwhile [ $n -lt 50 ]; do n=$((n + 1))\n"
        "told=$($wg show $device dump | tr '\\t' /)\n"
        f"if {silent}; then sleep 0.02; else break; fi\ndone\n"
    )


def _socket(end: Endpoint) -> str:
    return f"{_SOCKETS}/{end.device}.sock"


def _public_key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise ValueError(f"{text!r} is no public key of WireGuard")
    return text
