"""Three sites on one WAN, in a world of their own: a node and two containers at each, and what may be asked of them."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from dynamos.kit.errors import DynamosError, TimedOut
from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays.drivers import Driver, Material, Member, Network, largest_mtu
from dynamos.testbed.worlds import World

SITES = ("ams", "los", "tok")
UNDERLAY_MTU = 1500
PORT = 7000
"""Where the speaker of every container listens."""

_SPEAKER = """
import socket, sys, threading
def serve(talk):
    with talk:
        talk.settimeout(5)
        said = b""
        while block := talk.recv(65536): said += block
        if said == b"who am I?": said = talk.getpeername()[0].encode()
        talk.sendall(sys.argv[1].encode() + b" heard " + said)
listening = socket.create_server(("0.0.0.0", int(sys.argv[2])), backlog=64)
while True: threading.Thread(target=serve, args=[listening.accept()[0]], daemon=True).start()
"""
_ASKER = """
import json, socket, sys, threading
said, targets = sys.stdin.read(), json.loads(sys.argv[1])
heard = {}
def ask(key, where, port):
    try:
        with socket.create_connection((where, port), timeout=float(sys.argv[2])) as talk:
            talk.sendall(said.encode()); talk.shutdown(socket.SHUT_WR)
            text = b""
            while block := talk.recv(65536): text += block
            heard[key] = text.decode()
    except OSError as error: heard[key] = ""
threads = [threading.Thread(target=ask, args=[k, *t]) for k, t in targets.items()]
for t in threads: t.start()
for t in threads: t.join()
print(json.dumps(heard))
"""
_LEFT = """
for box in $(ip netns list | cut -d' ' -f1); do
  ip -n $box -br link | sed "s/^/$box link /"; ip -n $box -br addr | sed "s/^/$box addr /"
  ip -n $box -4 route show table all | sed "s/^/$box route /"
  ip netns exec $box nft list ruleset | sed "s/^/$box nft /"
done
ip -br link | sed 's/^/link /'; ip -br -4 addr | sed 's/^/addr /'; ip -4 route show table all | sed 's/^/route /'
nft list ruleset | sed 's/^/nft /'; sed 's/^/forwarding /' /proc/sys/net/ipv4/ip_forward
for each in /proc/sys/net/bridge/*; do sed "s,^,$each ," $each; done
ip rule | sed 's/^/rule /'; ip -4 neigh show nud permanent | sed 's/^/neighbour /'
find /run /tmp /root /home -xdev | sed 's/^/file /'; find /etc /var -xdev -newer /run/netns -type f | sed 's/^/file /'
ps -e -o comm= | grep -v -x -e ps -e sh -e sed -e grep | sed 's/^/process /'
"""
_INSIDE = "sed 's/^/hosts /' /etc/hosts; ls -A /etc /run /tmp; ls -l /etc/hosts | cut -c1-10"


def unable() -> str:
    """Tell why no world with networks can be made here; empty where it can."""
    return "" if os.geteuid() == 0 else "needs root"


class Lab:
    """A world with a bridge as its WAN; each site has a node at 198.18.0.N and containers NAME1 and NAME2, where a
    speaker answers with the container's name and what it heard."""

    def __init__(self, folder: Path, sites: Iterable[str] = SITES, containers: int = 2) -> None:
        self.world = World.create(folder, "lab")
        try:
            self.wan = self.world.node("wan", "wan")
            self.wan.run(["ip", "link", "add", "lan", "type", "bridge"])
            self.wan.run(["ip", "link", "set", "lan", "up"])
            self.nodes, self.underlays, self.containers = {}, {}, {}
            for number, site in enumerate(sites, 1):
                self._site(number, site, containers)
            for box in self.containers.values():
                until(f"a speaker in {box.name}", lambda box=box: self.hear(box, {box.name: "127.0.0.1"}, within=0.2))
        except BaseException:
            self.world.kill()
            raise

    def _site(self, number: int, site: str, containers: int) -> None:
        node = self.nodes[site] = self.world.node(site, site)
        self.underlays[site] = f"198.18.0.{number}"
        self.world.wire(node, "wan0", self.wan, f"port{number}", mtu=UNDERLAY_MTU)
        node.run(["ip", "addr", "add", f"198.18.0.{number}/24", "dev", "wan0"])
        self.wan.run(["ip", "link", "set", f"port{number}", "master", "lan"])
        for each in range(1, containers + 1):
            box = self.containers[f"{site}{each}"] = node.container(f"{site}{each}")
            box.start("speaker", ["python3", "-I", "-S", "-c", _SPEAKER, box.name, str(PORT)])

    def network(self, driver: Driver, name: str = "net", number: int = 1, **options: str) -> Network:
        """Give a network with the MTU that fits, and a subnet of its own where the driver is not of the underlay."""
        subnet = "10.64.0.0/12" if driver.name == "none" else f"10.80.{number}.0/24"
        return Network(name, number, subnet, largest_mtu(driver, UNDERLAY_MTU), options)

    def members(self, network: Network, *containers: str) -> list[Member]:
        """Give a member of this network for each of these containers."""
        return [self.member(network, name) for name in containers]

    def member(self, network: Network, name: str) -> Member:
        container = self.containers[name]
        base = network.subnet.rpartition("/")[0].rpartition(".")[0]
        address = f"{base}.{10 + list(self.containers).index(name)}"
        return Member(name, container, self.nodes[container.site], self.underlays[container.site], address)

    def hear(
        self, host: Host, targets: Mapping[str, str], said: str = "hello", *, port: int = PORT, within: float = 3.0
    ) -> dict[str, str]:
        """Say something from a host to the speakers at these names or addresses; give the answers that came, by key."""
        where = json.dumps({key: (target, port) for key, target in targets.items()})
        argv = ["python3", "-I", "-S", "-c", _ASKER, where, str(within)]
        told = json.loads(host.run(argv, stdin=said.encode(), within=within + 30).text)
        return {key: text for key, text in told.items() if text}

    def traces(self) -> dict[str, list[str]]:
        """Give all that there is at every node and in every container: devices, addresses, routes, rules, files,
        processes."""
        asked = [
            *((node, _LEFT) for node in self.nodes.values()),
            *((box, _INSIDE) for box in self.containers.values()),
        ]
        return {host.name: sorted(host.run(["sh"], stdin=script.encode()).text.splitlines()) for host, script in asked}


def changes(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> list[str]:
    """Give what came and went between two looks, as lines that begin with '+' or '-' and the host's name."""
    return [
        f"{sign}{name} {line}"
        for name in before
        for sign, one, other in (("+", after[name], before[name]), ("-", before[name], after[name]))
        for line in sorted((Counter(one) - Counter(other)).elements())
    ]


def until(what: str, found, *, within: float = 10.0):
    """Wait until `found` gives something, and give that."""
    end = time.monotonic() + within
    while not (result := found()):
        if time.monotonic() > end:
            raise TimedOut(f"{what} was not there within {within:g} s")
        time.sleep(0.02)
    return result


class Capture:
    """What goes over a node's WAN device while it is open."""

    def __init__(self, node, device: str = "wan0") -> None:
        self._node, self._device = node, device
        self.bytes = b""

    def __enter__(self):
        self._node.run(["rm", "-f", "/tmp/seen.pcap"])
        argv = [
            "tcpdump",
            "-i",
            self._device,
            "-s",
            "0",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
            "-w",
            "/tmp/seen.pcap",
        ]
        self._node.start("capture", argv)
        until("the capture", lambda: b"listening" in self._log())
        return self

    def _log(self) -> bytes:
        return self._node.log("capture").read_bytes()

    def __exit__(self, *_: object) -> None:
        self._node.stop("capture")
        self.bytes = self._node.get("/tmp/seen.pcap")
        self._node.run(["rm", "/tmp/seen.pcap"])
        self._node.log("capture").unlink()


class Interrupted(Exception):
    """The caller was ended between two steps, or in the middle of one."""


class Torn:
    """A host whose caller is ended at its step number `last`: before it, or with half of its script done."""

    def __init__(self, host: Host, left: list[int], *, half: bool) -> None:
        self._host, self._left, self._half = host, left, half

    def __getattr__(self, name: str):
        work = getattr(self._host, name)
        if name not in ("run", "put", "start", "stop", "get"):
            return work

        def step(*args, **options):
            self._left[0] -= 1
            if self._left[0] > 0:
                return work(*args, **options)
            script = options.get("stdin")
            if self._half and script and self._left[0] == 0:
                lines = script.decode().splitlines(keepends=True)
                half = "".join(lines[: len(lines) * 2 // 3])
                with suppress(DynamosError):
                    work(*args, **{**options, "stdin": half.encode(), "check": False})
            raise Interrupted

        return step


def torn(member: Member, left: list[int], *, half: bool) -> Member:
    """Give the member, on hosts that stop doing what they are told after so many steps."""
    container, gateway = (Torn(host, left, half=half) for host in (member.container, member.gateway))
    return Member(member.name, container, gateway, member.underlay, member.address)


def material_of(driver: Driver, network: Network, members: Iterable[Member]) -> Material:
    return {member.name: driver.prepare(network, member) for member in members}
