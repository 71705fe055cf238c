"""Ssh into the nodes of a testbed, for whatever speaks it: ssh, scp, paramiko, Ansible.

Each node makes its own host key, the testbed has one key of its user, and a client accepts no host that it does not
know. Nothing listens: a connection is a program that runs the node's sshd for it (see `enter`).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from dynamos.kit.errors import JobFailed, Unavailable
from dynamos.testbed import accounts, enter
from dynamos.testbed.locks import locked
from dynamos.testbed.nodes import Node

_HOST_KEY = "/run/ssh/host_key"
_AUTHORIZED = "/run/ssh/authorized_keys"
_NO_SSHD = 41
_PREPARE = f"""set -e
test -x {enter.SSHD} || exit {_NO_SSHD}
umask 022
mkdir -p /run/sshd /run/ssh
test -e {_HOST_KEY} || ssh-keygen -q -t ed25519 -N '' -C "$(hostname)" -f {_HOST_KEY}
printf %s "$CONFIG" > {enter.SSHD_CONFIG}
printf %s "$AUTHORIZED" > {_AUTHORIZED}
cat {_HOST_KEY}.pub
"""
_SSHD_CONFIG = f"""HostKey {_HOST_KEY}
AuthorizedKeysFile {_AUTHORIZED}
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowUsers root {accounts.USER}
UsePAM no
UseDNS no
X11Forwarding no
PidFile none
Subsystem sftp internal-sftp
"""
_FOR_ALL = """    User root
    IdentityFile "{folder}/id_ed25519"
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile "{folder}/known_hosts"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    PasswordAuthentication no
    LogLevel ERROR
"""


class SshAccess:
    """The files that a client needs, in the folder `ssh` of a testbed: `ssh -F config NODE` and no more."""

    def __init__(self, testbed: Path) -> None:
        self._testbed = testbed.resolve()
        self._folder = self._testbed / "ssh"

    @property
    def config(self) -> Path:
        """The client's configuration: every node by its name, and the first node of every site by the site's."""
        return self._folder / "config"

    @property
    def identity(self) -> Path:
        """The private key of the testbed's user."""
        return self._folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self._folder / "known_hosts"

    def offer(self, nodes: Iterable[Node]) -> Path:
        """Let ssh into these nodes, and into no others, and give the client's configuration. May be repeated.

        Raises Unavailable where a node has no sshd.
        """
        offered = sorted(nodes, key=lambda node: node.name)
        with locked(self._folder, within=30.0):
            public = self._own_key()
            hosts = {node.name: _prepare(node, public) for node in offered}
            known = "".join(f"{name} {key}\n" for name, key in hosts.items())
            _write(self.known_hosts, known)
            _write(self.config, self._config(offered))
        return self.config

    def serve(self, node: Node, address: str, *, port: int = 22) -> int:
        """Have a node's sshd listen on an address of its network too, for the other nodes; gives its pid there."""
        return node.start("sshd", enter.sshd_argv("-D", "-o", f"ListenAddress={address}", "-p", str(port)))

    def _own_key(self) -> str:
        """Give the public key of the testbed's user, which is made the first time."""
        public = self.identity.with_suffix(".pub")
        if not public.exists():
            key = Ed25519PrivateKey.generate()
            _write(self.identity, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode())
            text = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
            _write(public, f"{text} {self._testbed.name}\n")
        return public.read_text(encoding="ascii")

    def _config(self, nodes: Sequence[Node]) -> str:
        """Write an entry a node, and what holds for all of them."""
        taken = {node.name for node in nodes}
        entries: list[str] = []
        for node in nodes:
            names = [node.name] if node.site in taken else [node.name, node.site]
            taken |= set(names)
            entries += [
                f"Host {' '.join(names)}",
                f"    HostName {node.name}",
                f"    HostKeyAlias {node.name}",
                f"    ProxyCommand {self._proxy(node.name)}",
            ]
        if nodes:
            entries += [f"Host {' '.join(sorted(taken))}", _FOR_ALL.format(folder=self._folder)]
        return "\n".join(entries)

    def _proxy(self, name: str) -> str:
        words = [sys.executable, "-I", "-S", enter.__file__, str(self._testbed), name]
        return shlex.join(words).replace("%", "%%")


def _prepare(node: Node, authorized: str) -> str:
    """Give a node its host key, made there, and whom it lets in; gives the public part of the key."""
    texts = {"CONFIG": _SSHD_CONFIG, "AUTHORIZED": authorized}
    done = node.run(["sh", "-c", _PREPARE], env=texts, check=False)
    if done.code == _NO_SSHD:
        raise Unavailable("there is no sshd", where=node.name, hint="install the package openssh-server")
    if done.code != 0:
        raise JobFailed(f"ssh could not be set up: {done.stderr.decode(errors='replace').strip()}", where=node.name)
    return " ".join(done.text.split()[:2])


def _write(path: Path, text: str) -> None:
    """Write a file that is its owner's only; nobody sees half of it."""
    near = path.with_name(f".{path.name}")
    fd = os.open(near, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(text)
    near.rename(path)
