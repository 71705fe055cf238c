"""`ssh` and `exec`: into the nodes and containers of a testbed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynamos.cli import targets
from dynamos.cli.targets import StateOption, TestbedOption
from dynamos.kit.errors import BadInput, NotFound, Unavailable

if TYPE_CHECKING:
    from dynamos.testbed.worlds import World

PLAIN = {"ignore_unknown_options": True}
CommandArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[-- COMMAND]", help="The command, after two hyphens.")
]
SHELL = ["/bin/bash", "-l"]


def add(app: typer.Typer) -> None:
    app.command("ssh", context_settings=PLAIN)(ssh)
    app.command("exec", context_settings=PLAIN)(execute)


def ssh(
    name: Annotated[str, typer.Argument(help="A node, or a site: its first node.")] = "",
    command: CommandArgument = None,
    config: Annotated[
        bool, typer.Option("--config", help="Print the path of the file for ssh -F, scp, paramiko, Ansible.")
    ] = False,
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Log in to a node by ssh, or run a command there. Its host key is verified. The exit code is the command's."""
    from dynamos.testbed.ssh import SshAccess

    subject = targets.subject_of(state, testbed)
    path = SshAccess(subject.world.folder).offer(subject.world.nodes())
    if config:
        print(path)
        return
    if not name:
        raise BadInput("which node?", hint=f"nodes: {_nodes(subject.world)}")
    subject.world.find_node(name)
    program = shutil.which("ssh")
    if program is None:
        raise Unavailable("there is no ssh on this machine", hint="install the package openssh-client")
    os.execv(program, [program, "-F", str(path), name, *(command or [])])  # noqa: S606


def execute(
    name: Annotated[str, typer.Argument(help="A node, or a site: its first node.")],
    command: CommandArgument = None,
    container: Annotated[
        str, typer.Option("--container", "-c", help="In the container of this party there, instead of the node.")
    ] = "",
    user: Annotated[str, typer.Option("--user", "-u", help="As this user of the node: root or dynamos.")] = "root",
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Run a command in a node or in a container, with your own terminal. The exit code is the command's."""
    from dynamos.testbed.worlds import enter

    subject = targets.subject_of(state, testbed)
    where = _container(subject.world, name, container) if container else subject.world.find_node(name).name
    code = enter(subject.world.folder, where, command or SHELL, user=user)
    raise typer.Exit(code if code >= 0 else 128 - code)


def _container(world: World, name: str, party: str) -> str:
    """Give a container as NODE/NAME: that of the party, on the node, or on any node of the site."""
    from dynamos.model.sites import host_name

    nodes = [node for node in world.nodes() if name in (node.name, node.site)] or [world.find_node(name)]
    found = {box.name: f"{node.name}/{box.name}" for node in nodes for box in node.containers()}
    for each in (party, host_name(party)):
        if each in found:
            return found[each]
    raise NotFound(f"there is no container {party!r} at {name}", hint=f"containers: {', '.join(found) or 'none'}")


def _nodes(world: World) -> str:
    return ", ".join(node.name for node in world.nodes())
