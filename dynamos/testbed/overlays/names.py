"""Names inside an overlay: every container finds the others by name in its own /etc/hosts."""

from __future__ import annotations

from collections.abc import Mapping

from dynamos.kit.errors import NotFound
from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays import scripts

_MARK = "# overlay"


def publish(container: Host, network: str, addresses: Mapping[str, str]) -> None:
    """Let the container find these names, and no others that this network had before. Nobody sees half of it."""
    lines = [f"{address} {name} {_MARK} {network}" for name, address in sorted(addresses.items())]
    scripts.run(container, _rewrite(network, lines))


def withdraw(container: Host, network: str) -> None:
    """Let the container forget the names of this network. Does nothing where the container is gone."""
    try:
        scripts.run(container, _rewrite(network, []))
    except NotFound:
        return


def left(container: Host, network: str) -> list[str]:
    """Tell what names of this network the container finds still, each as an entry of `verify_gone`."""
    try:
        text = container.get("/etc/hosts").decode()
    except NotFound:
        return []
    lines = (line.split() for line in text.splitlines() if line.endswith(f"{_MARK} {network}"))
    return [f"{container.name}: the name {words[1]} in /etc/hosts" for words in lines]


def _rewrite(network: str, lines: list[str]) -> str:
    """Give a script that replaces a network's lines; several networks may do so at once."""
    new = f"/etc/.hosts.{network}"
    mine = "".join(f"echo '{line}'\n" for line in lines)
    return (
        scripts.locked("/run") + "{ while read -r line; do\n"
        f"case $line in *' {_MARK} {network}') ;; *) echo \"$line\";; esac\n"
        f"done < /etc/hosts\n{mine}}} > {new}\n"
        f"mv {new} /etc/hosts\n"
    )
