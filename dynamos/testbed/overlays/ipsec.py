"""The overlay `ipsec`: IKEv2 and ESP by strongSwan, from container to container.

A member is its Ed25519 public key (RFC 8420), made at its site; there is no certificate and no authority. Each pair has
an association of its own for just their two addresses. ESP is done by charon and not by the kernel, so that it works
alike on kernels with and without IPsec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynamos.kit.errors import BadInput
from dynamos.model.overheads import TRAITS
from dynamos.testbed.overlays import endpoints, materials, scripts, strongswan, tunnels
from dynamos.testbed.overlays.drivers import Member, Network, capabilities_of
from dynamos.testbed.overlays.endpoints import Endpoint
from dynamos.testbed.overlays.tunnels import SingleTunnel


class Ipsec(SingleTunnel):
    """strongSwan, a full mesh."""

    name = "ipsec"
    capabilities = capabilities_of(
        "ipsec",
        {
            "charon-systemd": "charon-systemd", "swanctl": "strongswan-swanctl",
            "/usr/lib/ipsec/plugins/libstrongswan-openssl.so": "libstrongswan-standard-plugins",
            "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so": "libcharon-extra-plugins",
            "openssl": "openssl", **tunnels.PROGRAMS,
        },
        ("tun", "bridge"),
    )  # fmt: skip
    first_port = 4500

    def prepare(self, network: Network, member: Member) -> dict[str, str]:
        largest = TRAITS["ipsec"].largest
        if network.mtu > largest:
            hint = "charon reads no more of a packet"
            raise BadInput(f"the overlay {network.name!r} has the mtu {network.mtu}, at most {largest}", hint=hint)
        return super().prepare(network, member)

    def unreached(self, network: Network, member: Member, peers: Sequence[Member]) -> list[str]:
        """Probe, after the associations are there or a second is over: a packet that comes before is lost."""
        end = self._end(network, member)
        labels = [strongswan.label(peer.address) for peer in peers if peer.name != member.name]
        scripts.run(member.gateway, f"cd {end.folder}\n" + strongswan.associated(labels))
        return super().unreached(network, member, peers)

    def _keys(self, _: Endpoint) -> str:
        return (
            "mkdir -p private pubkey\n"
            "if ! [ -s private/own.pem ]; then openssl genpkey -algorithm ed25519 -out own.new; "
            "mv own.new private/own.pem; fi\n"
            "openssl pkey -in private/own.pem -pubout -out pubkey/own.pem\n"
            "echo public-key $(sed /^---/d pubkey/own.pem)\n"
        )

    def _files(self, end: Endpoint, port: int, others: Sequence[materials.Peer]) -> Mapping[str, str]:
        keys = {f"pubkey/{peer.address}.pem": peer.text("public-key", strongswan.public_key) for peer in others}
        mine = {strongswan.label(peer.address): strongswan.calls(end, peer) for peer in others}
        before = "".join(f"{command} 2>/dev/null || true\n" for command in strongswan.clearing(end))
        return {
            **keys,
            "charon.conf": strongswan.daemon(end, port),
            "connections": strongswan.connections(end, port, others),
            "callees": "\n".join(name for name, called in mine.items() if called),
            "callers": "\n".join(name for name, called in mine.items() if not called),
            "apply": strongswan.apply(others),
            "call": strongswan.CALL,
            "settle": endpoints.settling(strongswan.settle(end) + "sh -eu ./apply\n(sh -u ./call &)\n"),
            "run": endpoints.running(
                end, "charon-systemd 9<&-", before=scripts.locked(endpoints.HOME) + before + _environment(end)
            ),
        }

    def _reloading(self, end: Endpoint) -> str:
        return _environment(end) + "sh -eu ./apply\n(sh -u ./call > /dev/null 2>&1 &)\n"

    def _undoing(self, end: Endpoint) -> Sequence[str]:
        return strongswan.clearing(end)

    def _remains(self, end: Endpoint) -> Sequence[str]:
        return strongswan.remaining(end)


def _environment(end: Endpoint) -> str:
    """Give the line that lets charon and swanctl find their files, and what they start be known."""
    return f"export STRONGSWAN_CONF={end.folder}/charon.conf SWANCTL_DIR={end.folder} {endpoints.SIGN}={end.folder}\n"
