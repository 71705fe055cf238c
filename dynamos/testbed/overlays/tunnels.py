"""Tunnels: overlays that encrypt, carried by a daemon at the node of each member.

What all of them do alike is here. A driver of this kind says how keys are made, what a peer's material has, what the
daemon's files are, and how a running daemon takes up other members.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from dynamos.kit.errors import Mistake, NotFound, Unavailable
from dynamos.model.networks import DriverName
from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays import endpoints, ends, materials, names, needs, probes, scripts
from dynamos.testbed.overlays.drivers import Capabilities, Material, Member, Network
from dynamos.testbed.overlays.endpoints import Endpoint

PROGRAMS: Mapping[str, str] = {
    "ip": "iproute2", "ss": "iproute2", "flock": "util-linux", "cmp": "diffutils", **probes.PROGRAMS,
}  # fmt: skip
"""What all of them need, each with the Debian package that brings it."""


class Tunnel(ABC):
    """A driver whose daemons are at the nodes, and whose devices are in the containers."""

    name: DriverName
    capabilities: Capabilities
    first_port: int
    """From where on a free port is looked for, unless the network's option `port` says otherwise."""

    def missing(self, host: Host) -> list[Mistake]:
        return needs.lacking(host, self.capabilities)

    def prepare(self, network: Network, member: Member) -> dict[str, str]:
        end = self._end(network, member)
        first = int(network.options.get("port", self.first_port))
        script = endpoints.making(end, first, self._keys(end), ports=self._ports(network))
        return {**materials.facts(member), **endpoints.words(scripts.run(member.gateway, script).text)}

    def join(self, network: Network, member: Member, material: Material) -> None:
        end = self._end(network, member)
        others = materials.others(network, member, material)
        port = materials.peers(network, material)[member.name].text("port", materials.port)
        self._bring_up(end, port, others)
        known = {peer.name: peer.address for peer in others}
        names.publish(member.container, network.name, {member.name: member.address, **known})

    def unreached(self, _: Network, member: Member, peers: Sequence[Member]) -> list[str]:
        return probes.unreached(member, peers)

    def leave(self, network: Network, member: Member) -> None:
        end = self._end(network, member)
        names.withdraw(member.container, network.name)
        try:
            for daemon in self._daemons(end):
                member.gateway.stop(daemon)
            scripts.run(member.gateway, endpoints.removing(end, *self._undoing(end)))
        except NotFound:
            return  # the node has ended, and everything on it

    def verify_gone(self, network: Network, member: Member) -> list[str]:
        end = self._end(network, member)
        left = ends.still(member.gateway, [*endpoints.remains(end), *self._remains(end)])
        return left + names.left(member.container, network.name)

    def _end(self, network: Network, member: Member) -> Endpoint:
        return Endpoint(self.name, network, member)

    def _settled(self, end: Endpoint, script: str) -> None:
        """Run a script that waits for an endpoint. Raises Unavailable that names what did not happen."""
        ended = scripts.run(end.member.gateway, script, check=False, within=endpoints.PATIENCE + 15)
        if ended.code != 0:
            why = ended.stderr.decode(errors="replace").strip()
            message = f"the overlay {end.network.name!r} is not up for {end.member.name!r}: {why}"
            raise Unavailable(message, where=end.member.gateway.name, hint=f"see the log of its daemon {end.name!r}")

    @abstractmethod
    def _bring_up(self, end: Endpoint, port: int, others: Sequence[materials.Peer]) -> None:
        """Write what the daemons read, start them, and wait until their devices are in place. What runs already takes
        up what changed, and goes on where nothing did."""

    def _ports(self, network: Network) -> int:
        """Give how many ports in a row a member takes."""
        del network
        return 1

    @abstractmethod
    def _daemons(self, end: Endpoint) -> Sequence[str]:
        """Give the names of a member's daemons at its node."""

    def _undoing(self, end: Endpoint) -> Sequence[str]:
        """Give commands that remove what only this driver makes."""
        del end
        return []

    def _remains(self, end: Endpoint) -> Sequence[str]:
        """Give commands that print a line where something is left of what only this driver makes."""
        del end
        return []

    @abstractmethod
    def _keys(self, end: Endpoint) -> str:
        """Give the lines of a script that make keys where none are, and print the public parts as `name value`."""


class SingleTunnel(Tunnel):
    """A driver with one daemon for each member, whose device is the network's in the container."""

    def _bring_up(self, end: Endpoint, port: int, others: Sequence[materials.Peer]) -> None:
        gateway, condition = end.member.gateway, endpoints.ready(end, end.network.name)
        script = f"umask 077\ncd {end.folder}\nif {condition}; then echo up; fi\n"
        told = scripts.run(gateway, script + endpoints.writing(self._files(end, port, others))).text.split()
        anew = "up" not in told or not {"run", "settle"}.isdisjoint(told)
        if anew:
            gateway.stop(end.name)
        gateway.start(end.name, ["sh", f"{end.folder}/run"], env=end.env)
        script = f"cd {end.folder}\n" + endpoints.until(
            condition, "its device did not get into the container", within=endpoints.PATIENCE
        )
        if not anew and told != ["up"]:
            script += self._reloading(end)
        self._settled(end, script)

    def _daemons(self, end: Endpoint) -> Sequence[str]:
        return [end.name]

    @abstractmethod
    def _files(self, end: Endpoint, port: int, others: Sequence[materials.Peer]) -> Mapping[str, str]:
        """Give the files that a daemon reads, by name, `run` and `settle` among them. Nothing in them is secret."""

    @abstractmethod
    def _reloading(self, end: Endpoint) -> str:
        """Give the lines of a script that have a running daemon take up its files as they are now."""
