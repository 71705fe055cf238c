"""Networks that encrypt, for tests: brought up at once, and what comes into a container of them."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from dynamos.testbed.overlays import networks, registry

NAMES = ("ipsec", "nebula", "openvpn", "wireguard")
HOME = PurePosixPath("/run/dynamos/overlays")


def driver_of(lab, name):
    found = registry.driver(name)
    lacks = found.missing(lab.nodes["ams"])
    if lacks:
        pytest.skip("; ".join(str(mistake) for mistake in lacks))
    return found


class Up:
    """A network of three that is up."""

    def __init__(self, lab, name, *containers, called="net", number=1, **options):
        self.lab, self.driver = lab, driver_of(lab, name)
        self.network = lab.network(self.driver, called, number, **options)
        self.members = lab.members(self.network, *containers)
        networks.bring(self.network, self.members, self.driver)

    def __getitem__(self, name):
        return next(member for member in self.members if member.name == name)

    def folder(self, name):
        return HOME / f"{self.driver.name}-{self.network.name}.{name}"

    def down(self):
        networks.take_down(self.network, self.members, self.driver)


class Counted:
    """Counts what a container takes in from an address."""

    def __init__(self, container, address):
        self._container, self._address = container, address

    def __enter__(self):
        hook = "type filter hook input priority -500;"
        rules = f"table inet counted {{\nchain c {{ {hook} ip saddr {self._address} counter; }}\n}}\n"
        self._container.run(["nft", "-f", "-"], stdin=rules.encode())
        return self

    def __exit__(self, *_):
        self._container.run(["nft", "delete", "table", "inet", "counted"])

    @property
    def packets(self):
        words = self._container.run(["nft", "list", "table", "inet", "counted"]).text.split()
        return int(words[words.index("packets") + 1])


def say(container, source, target):
    """Send one packet from an address that the container need not have by right."""
    script = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        "s.bind((sys.argv[1], 0)); s.sendto(b'x', (sys.argv[2], 9))"
    )
    container.run(["python3", "-I", "-S", "-c", script, source, target])
