"""Endpoints of tunnels that a daemon at the node carries: what belongs to one of them, and the scripts that they share.

The daemon runs in the node's network, so that its socket is on the WAN, and opens its device there. The device then
moves into the container's network: the daemon holds on to it wherever it is, and nothing else leads from the container
to the node. Whoever starts the daemon again, after it was killed, runs the same script, which moves the new device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dynamos.testbed.overlays import ends, materials, scripts
from dynamos.testbed.overlays.drivers import Member, Network

_RUN = "/run"
HOME = f"{_RUN}/dynamos/overlays"
_END = "END-OF-FILE"
PATIENCE = 45
"""Seconds that an endpoint has to be in place; others of the same kind at its node may come before it."""
SIGN = "DYNAMOS_ENDPOINT"
"""The environment variable by which every process of an endpoint is known."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One member's end of one network, at its node: where its files are, and what its devices are called."""

    driver: str
    network: Network
    member: Member

    def __post_init__(self) -> None:
        # Both names go into paths and scripts.
        materials.peers(self.network, {self.member.name: materials.facts(self.member)})

    @property
    def name(self) -> str:
        return f"{self.driver}-{self.network.name}.{self.member.name}"

    @property
    def folder(self) -> str:
        """The folder of its files at the node, its private keys among them, which no container sees."""
        return f"{HOME}/{self.name}"

    @property
    def box(self) -> str:
        return self.member.container.name

    @property
    def device(self) -> str:
        """What the device is called at the node, before it moves: no two members of a node have the same."""
        return f"{self.driver[0]}{self.network.number:x}p{self.network.place(self.member.address):x}"

    @property
    def env(self) -> dict[str, str]:
        return {SIGN: self.folder}

    @property
    def address(self) -> str:
        return f"{self.member.address}/{self.network.range.prefixlen}"


def making(end: Endpoint, first_port: int, keys: str, *, ports: int = 1) -> str:
    """Give a script that makes an endpoint's folder, claims so many free ports in a row for it, and makes its `keys`.

    It runs in the folder, prints the first port, and then what `keys` prints. Made again all is as before.
    """
    return (
        f"umask 077\n(\n{scripts.locked(_RUN)}mkdir -p {end.folder}\ncd {end.folder}\n"
        f"if ! [ -s ports ]; then\nfirst={first_port}\ncount={ports}\n{_FREE}"
        "echo $first $count > ports.new\nmv ports.new ports\nfi\n)\n"
        f"cd {end.folder}\nread -r first _ < ports\necho port $first\n{keys}"
    )


_FREE = f"""\
claimed=$(cat {HOME}/*/ports 2>/dev/null || true)
bound=$(ss -Hlntu | while read -r _ _ _ _ at _; do echo ${{at##*:}} 1; done)
moved=yes
while [ $moved ]; do
moved=
while read -r other many; do
if [ ${{other:-0}} -lt $((first + count)) ] && [ $((other + many)) -gt $first ]; then
first=$((other + many)); moved=yes
fi
done <<{_END}
$claimed
$bound
{_END}
done
if [ $((first + count)) -gt 65536 ]; then echo 'there are no ports left' >&2; exit 1; fi
"""
"""Lines that move `first` on to the first of `count` ports in a row that no endpoint claims and nobody listens on."""


def writing(files: Mapping[str, str]) -> str:
    """Give the lines of a script that write these files where it is, and print the names of those that changed."""
    script = ""
    for name, text in files.items():
        script += f"cat > {name}.new <<'{_END}'\n{text.rstrip()}\n{_END}\n"
        script += f"if cmp -s {name}.new {name}; then rm {name}.new; else mv {name}.new {name}; echo {name}; fi\n"
    return script


def running(end: Endpoint, daemon: str, *, before: str = "") -> str:
    """Give the script `run`, which becomes the program `daemon` while the script `settle` puts its device in place.

    Where that fails the daemon ends, and is started again. `before` comes first.
    """
    # The one that settles is a grandchild, so that the host's first process reaps it, and not the daemon.
    return f"set -eu\ncd {end.folder}\nrm -f ready\n{before}( (sh -eu ./settle $$ || kill $$) & )\nexec {daemon}\n"


def settling(body: str) -> str:
    """Give the script `settle`, whose $1 is the daemon's pid. The file `ready` holds that once all is in place."""
    return f"{body}echo $1 > ready.new\nmv ready.new ready\n"


def moving(end: Endpoint, device: str) -> str:
    """Give the lines that move a device from the node's network into the container's, with the member's address."""
    inside = (
        f"addr add {end.address} dev {end.network.name}", f"link set {end.network.name} up",
    )  # fmt: skip
    looks = f"mtu {end.network.mtu} {ends.no_ipv6(end.network)}"
    return f"ip link set {device} {looks} netns {end.box} name {end.network.name}\n" + scripts.fed(
        f"ip -n {end.box} -batch -", inside
    )


def ready(end: Endpoint, device: str, file: str = "ready") -> str:
    """Give the condition that an endpoint's daemon runs and has its device in the container's network."""
    return (
        f"[ -s {end.folder}/{file} ] && kill -0 $(cat {end.folder}/{file}) 2>/dev/null "
        f"&& ip -n {end.box} link show dev {device} >/dev/null 2>&1"
    )


def until(condition: str, what: str, *, within: int = 30) -> str:
    """Give the lines of a script that wait until a condition holds, and fail after so many seconds, saying `what`."""
    return (
        f"n=0\nuntil {condition}; do n=$((n + 1))\n"
        f"if [ $n -gt {within * 100} ]; then echo '{what}' >&2; exit 1; fi\nsleep 0.01\ndone\n"
    )


def removing(end: Endpoint, *more: str) -> str:
    """Give a script that removes an endpoint's device, ports and files, and does these commands before."""
    return (
        f"for left in $({_processes(end)}); do kill -9 $(echo $left | cut -d/ -f3) 2>/dev/null || true; done\n"
        + "".join(f"{command} 2>/dev/null || true\n" for command in more)
        + f"ip -n {end.box} link del {end.network.name} 2>/dev/null || true\n"
        f"ip link del {end.device} 2>/dev/null || true\n"
        + scripts.locked(_RUN)
        + f"rm -rf {end.folder}\nrmdir -p {HOME} 2>/dev/null || true\n"
    )


def remains(end: Endpoint) -> Sequence[str]:
    """Give commands each of which prints a line where something of an endpoint is left: processes, files, devices."""
    return (
        _processes(end),
        f"ls -d {end.folder}",
        f"ip -o link show dev {end.device}",
        f"ip -o addr show to {end.member.address}",
        f"ip -n {end.box} -o link show dev {end.network.name}",
        f"ip -n {end.box} -o addr show to {end.member.address}",
        f"ip -n {end.box} -o route show root {end.network.subnet}",
    )


def _processes(end: Endpoint) -> str:
    """Give the command that names the environments of an endpoint's processes."""
    return f"grep -lsz '^{SIGN}={end.folder}$' /proc/[0-9]*/environ"


def words(text: str) -> dict[str, str]:
    """Read lines of a name and a value."""
    return dict(line.split(maxsplit=1) for line in text.splitlines() if line.strip())
