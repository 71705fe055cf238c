"""The overlay `nebula`: Nebula 1.6 from container to container, with no certificate authority above the sites.

Every member makes an authority of its own, lets it sign one certificate, and deletes the authority's key. The
certificates of all authorities cross, and each member trusts them all: not to say who anyone is, but each for its own
address (`ca_sha` and `cidr` in every rule). Who signs himself another's address is heard by nobody, and sent nothing.
There is no lighthouse: everyone knows where all others are.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from dynamos.kit.errors import BadInput, JobFailed
from dynamos.testbed.overlays import endpoints, materials, scripts, tunnels
from dynamos.testbed.overlays.drivers import capabilities_of
from dynamos.testbed.overlays.endpoints import Endpoint
from dynamos.testbed.overlays.tunnels import SingleTunnel

_LASTING = "8760h"
_BEGIN, _END = "-----BEGIN NEBULA CERTIFICATE-----", "-----END NEBULA CERTIFICATE-----"


class Nebula(SingleTunnel):
    """Nebula, a full mesh without a lighthouse."""

    name = "nebula"
    capabilities = capabilities_of(
        "nebula", {"nebula": "nebula", "nebula-cert": "nebula", **tunnels.PROGRAMS}, ("tun",)
    )
    first_port = 4242

    def _keys(self, end: Endpoint) -> str:
        subnet, name = end.network.subnet, end.member.name
        return (
            "if ! [ -s own.crt ]; then\nrm -f ca.* own.*\n"
            f"nebula-cert ca -name '{name} in {end.network.name}' -ips {subnet} -duration {_LASTING}\n"
            f"nebula-cert sign -name {name} -ip {end.address} -out-crt own.new -out-key own.key\n"
            "rm ca.key\nmv own.new own.crt\nfi\n"
            "echo authority $(sed /^---/d ca.crt | tr -d '\\n')\n"
        )

    def _files(self, end: Endpoint, port: int, others: Sequence[materials.Peer]) -> Mapping[str, str]:
        signed = {peer.address: peer.text("authority", _authority) for peer in others}
        own = end.member.gateway.get(f"{end.folder}/ca.crt").decode()
        signs = _fingerprints(end, {**signed, end.member.address: own})
        rules = [
            {"port": "any", "proto": "any", "cidr": f"{address}/32", "ca_sha": signs[address]} for address in signed
        ]
        config: dict[str, Any] = {
            "pki": {"ca": f"{end.folder}/authorities", "cert": f"{end.folder}/own.crt", "key": f"{end.folder}/own.key"},
            "static_host_map": {
                peer.address: [f"{peer.underlay}:{peer.text('port', materials.port)}"] for peer in others
            },
            "lighthouse": {"am_lighthouse": False, "hosts": []},
            "listen": {"host": end.member.underlay, "port": port},
            "cipher": end.network.options.get("cipher", "aes"),
            "tun": {"dev": end.device, "mtu": end.network.mtu, "drop_multicast": True, "drop_local_broadcast": True},
            "logging": {"level": "warning"},
            "firewall": {"outbound": rules, "inbound": rules},
        }
        return {
            "authorities": "\n".join(text.strip() for text in [own, *signed.values()]),
            "config": json.dumps(config, indent=1),
            # The route is the last that nebula does to its device.
            "settle": endpoints.settling(
                endpoints.until(
                    f"ip route show dev {end.device} 2>/dev/null | grep -q .", "nebula does not open its device"
                )
                + endpoints.moving(end, end.device)
            ),
            # One at a time: until it moves, the device has a route at the node that another one's would replace.
            "run": endpoints.running(
                end, f"nebula -config {end.folder}/config 9<&-", before=scripts.locked(endpoints.HOME)
            ),
        }

    def _reloading(self, _: Endpoint) -> str:
        return "kill -HUP $(cat ready)\n"


def _authority(text: str) -> str:
    """Read a certificate's body, and give the certificate."""
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("it is no certificate") from None
    return f"{_BEGIN}\n{text}\n{_END}"


def _fingerprints(end: Endpoint, signed: Mapping[str, str]) -> dict[str, str]:
    """Have nebula read the certificates of authorities, by address, and give their fingerprints."""
    bundle = "\n".join(signed.values())
    script = (
        "bundle=$(mktemp)\ntrap 'rm -f $bundle' EXIT\n"
        + scripts.fed("cat > $bundle", [bundle])
        + "nebula-cert print -json -path $bundle\n"
    )
    try:
        told = [json.loads(line) for line in scripts.run(end.member.gateway, script).text.splitlines() if line]
    except JobFailed as error:
        raise BadInput(f"an authority's certificate cannot be read: {error.message}", where=end.name) from None
    if len(told) != len(signed) or not all(each["details"]["isCa"] for each in told):
        raise BadInput("what should be the certificate of an authority is something else", where=end.name)
    found = dict(zip(signed, (each["fingerprint"] for each in told), strict=True))
    if len(set(found.values())) != len(found):
        raise BadInput("two members have the same authority", where=end.name)
    return found
