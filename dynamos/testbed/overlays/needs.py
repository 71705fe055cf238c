"""What a driver needs of a host: programs, and features of the kernel. What lacks is told, and never replaced."""

from __future__ import annotations

from collections.abc import Mapping

from dynamos.kit.errors import Mistake
from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays.drivers import Capabilities

FEATURES: Mapping[str, str] = {
    "vxlan": "unshare -n ip link add t1 type vxlan id 1 dstport 4789",
    "bridge": "unshare -n ip link add name t1 type bridge",
    "veth": "unshare -n ip link add name t1 type veth peer name t2",
    "tun": "unshare -n ip tuntap add dev t1 mode tun",
    "nat": "unshare -n nft add table ip t1 '{ chain c { type nat hook output priority -100; }; }'",
    "filter": "unshare -n nft add table inet t1 '{ chain c { type filter hook input priority 0; counter drop; }; }'",
}
"""Kernel features by name, each with a command that shows it in a network that ends with the command."""


def lacking(host: Host, capabilities: Capabilities) -> list[Mistake]:
    """Give what the host lacks of what a driver needs, in one call to the host."""
    tests = [f"command -v {program} >/dev/null || echo program {program}" for program in capabilities.programs]
    tests += [f"{FEATURES[name]} 2>/dev/null || echo kernel {name}" for name in capabilities.kernel]
    told = host.run(["sh", "-c", "\n".join(tests)], check=False).text
    mistakes = []
    for kind, name in (line.split(maxsplit=1) for line in told.splitlines()):
        if kind == "program":
            package = capabilities.programs[name]
            hint = f"install Debian's package {package}, or run `dynamos doctor --fix`"
            mistakes.append(Mistake(host.name, f"the program {name!r} is missing", hint))
        else:
            mistakes.append(Mistake(host.name, f"this kernel has no {name!r}", "use another driver on this machine"))
    return mistakes
