"""Machines that exist, as the driver `ssh` takes them: asked who they are, over ssh that trusts no unknown host."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from dynamos.kit.errors import Refused, TimedOut, Unavailable

_SECONDS = 10
_LOST = 255
_ASKED = "uname -n; uname -s; uname -m"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a machine is, and whom to log in as. What is empty, ssh's own settings say."""

    name: str
    address: str
    port: int = 22
    user: str = ""
    identity: str = ""

    @classmethod
    def of(cls, props: Mapping[str, Any]) -> Self:
        """Give the machine that a resource's properties tell of; numbers come as fractions."""
        words = {name: str(props.get(name) or "") for name in ("name", "address", "user", "identity")}
        return cls(**words, port=int(props.get("port") or 22))

    def ask(self) -> dict[str, str]:
        """Log in and give what it says of itself: `host`, `system` and `architecture`.

        Raises Refused where its host key is not the one that is known, else Unavailable; both name the machine.
        """
        try:
            done = subprocess.run(
                self.ssh(_ASKED), capture_output=True, text=True, check=False, timeout=2 * _SECONDS,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except FileNotFoundError:
            raise Unavailable("there is no ssh", where=self.name, hint="install the package openssh-client") from None
        except subprocess.TimeoutExpired:
            raise TimedOut(
                f"it did not answer within {2 * _SECONDS} s", where=self._where, hint=self._by_hand
            ) from None
        words = done.stdout.split()
        if done.returncode == 0 and len(words) == len(_ASKED.split(";")):
            return dict(zip(("host", "system", "architecture"), words, strict=True))
        raise self._why(done.returncode, done.stderr.strip())

    def ssh(self, command: str) -> list[str]:
        """Give the words that run a command there: without questions, and only where the host key is known."""
        strict = ("BatchMode=yes", "StrictHostKeyChecking=yes", f"ConnectTimeout={_SECONDS}")
        options = [word for option in strict for word in ("-o", option)]
        user = ["-l", self.user] if self.user else []
        identity = ["-i", self.identity, "-o", "IdentitiesOnly=yes"] if self.identity else []
        return ["ssh", *options, *user, *identity, "-p", str(self.port), "--", self.address, command]

    def entry(self) -> str:
        """Give its entry in a configuration of ssh, under its own name."""
        lines = [f"Host {self.name}", f"    HostName {self.address}", f"    Port {self.port}"]
        lines += [f"    User {self.user}"] if self.user else []
        lines += [f'    IdentityFile "{self.identity}"', "    IdentitiesOnly yes"] if self.identity else []
        return "\n".join([*lines, "    StrictHostKeyChecking yes", ""])

    @property
    def _where(self) -> str:
        return f"{self.name} ({self.address}:{self.port})"

    @property
    def _by_hand(self) -> str:
        return f"try by hand: ssh -p {self.port} {f'{self.user}@' if self.user else ''}{self.address}"

    def _why(self, code: int, told: str) -> Refused | Unavailable:
        last = told.splitlines()[-1] if told else f"it ended with {code}"
        if re.search(r"host key verification failed|host identification has changed", told, re.IGNORECASE):
            hint = "compare the key with its owner's, then put it into your known_hosts: it is never accepted here"
            return Refused("its host key is not the one that is known", where=self._where, hint=hint)
        what = "ssh cannot log in" if code == _LOST else "it does not run a plain shell"
        return Unavailable(f"{what}: {last}", where=self._where, hint=self._by_hand)
