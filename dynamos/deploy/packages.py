"""Debian packages, by what needs them: the one list. `dynamos doctor` looks at it, `dynamos doctor --fix` and
`make packages` install from it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that DYNAMOS can do where certain packages are there.

    `needs` gives, for each package, what shows that it is there: names of programs, or paths of files. `without` says
    what is lost where one of them is missing.
    """

    name: str
    needs: Mapping[str, tuple[str, ...]]
    without: str


FEATURES: tuple[Feature, ...] = (
    Feature(
        "sites",
        {
            "iproute2": ("ip", "tc", "bridge"),
            "nftables": ("nft",),
            "iputils-ping": ("ping",),
            "openssl": ("openssl",),
            "util-linux": ("nsenter", "unshare", "flock", "runuser", "setpriv"),
        },
        "there are no testbeds with networks of their own (driver: namespaces)",
    ),
    Feature(
        "wan",
        {"user-mode-linux": ("linux.uml", "/usr/lib/uml/modules"), "kmod": ("modprobe",)},
        "links have no delay and no loss where this machine's kernel has no netem",
    ),
    Feature(
        "ssh",
        {"openssh-server": ("/usr/sbin/sshd",), "openssh-client": ("ssh", "scp", "ssh-keygen")},
        "nodes take no ssh: dynamos ssh, Ansible",
    ),
    Feature(
        "services",
        {"runit": ("runsvdir", "sv", "chpst", "svlogd"), "curl": ("curl",)},
        "Ansible cannot deploy to nodes of a testbed, which have no systemd",
    ),
    Feature(
        "evpn",
        {"frr": ("/usr/lib/frr/bgpd", "/usr/lib/frr/zebra", "/usr/lib/frr/bfdd", "vtysh")},
        "there is no overlay evpn",
    ),
    Feature(
        "wireguard",
        {"wireguard-go": ("wireguard-go",), "wireguard-tools": ("wg",)},
        "there is no overlay wireguard",
    ),
    Feature(
        "ipsec",
        {
            "strongswan-swanctl": ("swanctl",),
            "charon-systemd": ("charon-systemd",),
            "libstrongswan-standard-plugins": ("/usr/lib/ipsec/plugins/libstrongswan-openssl.so",),
            "libcharon-extra-plugins": ("/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",),
        },
        "there is no overlay ipsec",
    ),
    Feature("nebula", {"nebula": ("nebula", "nebula-cert")}, "there is no overlay nebula"),
    Feature("openvpn", {"openvpn": ("openvpn",)}, "there is no overlay openvpn"),
    Feature("mtls", {"haproxy": ("haproxy",)}, "there is no overlay mtls"),
    Feature(
        "cluster",
        {
            "containerd": ("containerd", "containerd-shim-runc-v2", "ctr"),
            "runc": ("runc",),
            "containernetworking-plugins": ("/usr/lib/cni/ptp", "/usr/lib/cni/host-local", "/usr/lib/cni/portmap"),
            "catatonit": ("catatonit",),
            "conntrack": ("conntrack",),
            "busybox-static": ("busybox",),
            "docker-registry": ("docker-registry",),
        },
        "tests with a Kubernetes cluster of their own skip",
    ),
    Feature(
        "tests",
        {"tcpdump": ("tcpdump",), "procps": ("ps",), "chromium": ("chromium",)},
        "some tests of the project itself skip",
    ),
)
"""Every feature that needs packages: the testbed's own, then those of its overlays, by the driver's name."""

SERVICES: Mapping[str, tuple[str, ...]] = {
    "openssh-server": ("ssh.service",),
    "frr": ("frr.service",),
    "charon-systemd": ("strongswan.service",),
    "openvpn": ("openvpn.service",),
    "haproxy": ("haproxy.service",),
    "containerd": ("containerd.service",),
    "docker-registry": ("docker-registry.service",),
}
"""What a package would have this machine run by itself. We want the programs only."""


def lacking(feature: Feature, there: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """Give the packages of a feature of which something is missing, each with what; `there` tells of a program or
    path."""
    missing = {package: tuple(sign for sign in signs if not there(sign)) for package, signs in feature.needs.items()}
    return {package: signs for package, signs in missing.items() if signs}


def packages_of(features: Iterable[Feature]) -> tuple[str, ...]:
    """Give the packages of these features, each once."""
    return tuple(dict.fromkeys(package for feature in features for package in feature.needs))
