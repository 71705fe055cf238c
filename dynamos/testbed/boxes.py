"""A box: a set of namespaces with an init, which is what a world, a node and a container are. It is a Host.

Everything goes through the init's socket in the testbed's folder, so that any thread of any process of the same person
may use it, and nothing of the caller but what is handed over gets in.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from dynamos.kit.errors import BadInput, Broken, JobFailed, NotFound, Unavailable
from dynamos.testbed import accounts, calls, children, messages
from dynamos.testbed.hosts import Completed
from dynamos.testbed.locks import locked

_FACTS = "box.json"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DAEMON = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,99}")
_KINDS = ("--user", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
_MAKE_SECONDS = 60.0
_COPY_SECONDS = 120.0


class Box:
    """Runs commands in a set of namespaces. `folder` holds its socket, its facts and the logs of its daemons."""

    def __init__(self, folder: Path, name: str, site: str) -> None:
        self._folder = folder
        self._name = name
        self._site = site

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r}, site={self._site!r})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def site(self) -> str:
        return self._site

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def alive(self) -> bool:
        """Whether somebody serves it now."""
        with suppress(NotFound, Unavailable):
            calls.connect(self._folder).close()
            return True
        return False

    @property
    def pid(self) -> int:
        """The pid of its init as this process sees it, for `nsenter --target`. Raises NotFound."""
        with closing(calls.connect(self._folder)) as connection:
            return calls.pid_of(connection)

    @property
    def read_only(self) -> tuple[str, ...]:
        """The system folders that nothing can be written to in it, because of how this machine mounts them."""
        return tuple(facts(self._folder).get("read_only", ()))

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        check: bool = True,
        within: float = 30.0,
        user: str = "root",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        fds: Sequence[int] = (),
    ) -> Completed:
        """Run a command to its end, with a clean environment and `fds` as its descriptors from 3 on.

        Output is what was there when it ended, whoever else still writes. Raises JobFailed with its standard error
        where it fails, and TimedOut, which ends it and its session.
        """
        message = {"do": "run", "argv": list(argv), "env": dict(env or {}), "user": user, "cwd": cwd}
        code, stdout, stderr = calls.finish(self._folder, message, stdin=stdin, fds=fds, within=within)
        if check and code != 0:
            told = (stderr or stdout).decode(errors="replace").strip()
            raise JobFailed(f"{' '.join(argv)!r} ended with {code}: {told}", where=self._name, exit_code=code)
        return Completed(tuple(argv), code, stdout, stderr)

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        user: str = "root",
        cwd: str = "/",
        fds: Sequence[int] = (),
    ) -> int:
        """Start a daemon under a name of its own, with `fds` as its descriptors from 3 on, and give its pid there.

        It is started again when it ends, with a bounded back-off, until `stop`. To start the same one twice does
        nothing. Raises Conflict where another one has that name, NotFound where there is no such program.
        """
        message = {"do": "start", "name": name, "argv": list(argv), "env": dict(env or {}), "user": user, "cwd": cwd}
        log = os.open(self.log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            answer, _ = calls.ask(self._folder, message, [nothing, log, log, *fds])
        finally:
            os.close(log)
            os.close(nothing)
        return int(answer["pid"])

    def stop(self, name: str) -> None:
        """End the daemon of that name, and what it started in its session, and wait until it is gone.

        It is killed when it takes longer than some seconds. Does nothing where there is none.
        """
        calls.ask(self._folder, {"do": "stop", "name": name})

    def daemons(self) -> dict[str, dict[str, int]]:
        """Give the `pid` (0 while it waits to be started again) and number of `restarts` of every daemon by name."""
        answer, _ = calls.ask(self._folder, {"do": "daemons"})
        told: dict[str, dict[str, int]] = answer["daemons"]
        return told

    def log(self, name: str) -> Path:
        """Give the file that a daemon's output goes to."""
        if not _DAEMON.fullmatch(name):
            raise BadInput(f"a daemon cannot be called {name!r}", where=self._name)
        logs = self._folder / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        return logs / f"{name}.log"

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file, with its folders. Nobody sees half of it."""
        message = {"do": "put", "path": path, "mode": mode}
        code, _, stderr = calls.finish(self._folder, message, stdin=content, within=_COPY_SECONDS)
        if code != 0:
            raise JobFailed(f"cannot write {path}: {stderr.decode(errors='replace').strip()}", where=self._name)

    def get(self, path: str) -> bytes:
        """Read a file. Raises NotFound."""
        code, stdout, stderr = calls.finish(self._folder, {"do": "get", "path": path}, within=_COPY_SECONDS)
        if code == children.NOT_FOUND:
            raise NotFound(f"there is no {path}", where=self._name)
        if code != 0:
            raise JobFailed(f"cannot read {path}: {stderr.decode(errors='replace').strip()}", where=self._name)
        return stdout

    def set_names(self, addresses: Mapping[str, str]) -> None:
        """Make these names resolve to these addresses, and no others but its own."""
        lines = [*accounts.hosts(self._name), *(f"{address} {name}" for name, address in sorted(addresses.items()))]
        self.put("/etc/hosts", "".join(f"{line}\n" for line in lines).encode())

    def names(self) -> dict[str, str]:
        """Give the names that resolve here to an address, without those that every box has."""
        own, lines = accounts.hosts(self._name), list[str]()
        with suppress(NotFound):
            lines = self.get("/etc/hosts").decode(errors="replace").splitlines()
        told = [line.partition("#")[0].split() for line in lines if line not in own]
        return {name: words[0] for words in told if words for name in words[1:]}

    def spawn(self, argv: Sequence[str], *, user: str = "root", **options: Any) -> subprocess.Popen[bytes]:
        """Start a command with this process's own input, output and terminal. Options are those of Popen.

        It has `pass_fds` under the numbers that they have here.
        """
        return subprocess.Popen(self.enter_argv(argv, user=user), **options)

    def enter_argv(self, argv: Sequence[str], *, user: str = "root") -> list[str]:
        """Give the words that run a command in here with the caller's own input, output and terminal."""
        program = shutil.which("nsenter", path=children.PATH)
        if program is None:
            raise Unavailable("there is no nsenter on this machine", hint="install the package util-linux")
        # Root must become the box's own root; anybody else is that already, and may not change.
        ours = [] if os.geteuid() == 0 else ["--preserve-credentials"]
        where = [program, "--target", str(self.pid), *_KINDS, *ours, "--wdns=/", "--"]
        variables = {**children.environment(user), "TERM": os.environ.get("TERM", "dumb")}
        clean = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        other = [] if user == "root" else ["runuser", "-u", user, "--"]
        return [*where, *clean, *other, *argv]

    @contextmanager
    def namespace(self, kind: str = "net") -> Iterator[int]:
        """Give a descriptor of one of its namespaces: `net`, `mnt`, `uts`, `ipc`, `pid` or `user`."""
        _, fds = calls.ask(self._folder, {"do": "namespace", "kind": kind})
        if not fds:
            raise Broken("no namespace came with the answer", where=self._name)
        try:
            yield fds[0]
        finally:
            os.close(fds[0])


def make(parent: Path, folder: Path, name: str, site: str, **options: Any) -> None:
    """Have the init in `parent` make a box with its files in `folder`, unless it is there."""
    if not _NAME.fullmatch(name):
        hint = "small letters, digits and hyphens, at most 63"
        raise BadInput(f"{name!r} cannot be the name of a machine", hint=hint)
    with locked(folder, within=_MAKE_SECONDS):
        if Box(folder, name, site).alive:
            return
        told: dict[str, Any] = {"name": name, "site": site}
        _write_facts(folder, told)  # first: whoever is killed meanwhile has made a whole box
        with messages.listener(folder) as listener:
            message = {"do": "create", "name": name, **options}
            answer, _ = calls.ask(parent, message, [listener.fileno()], within=_MAKE_SECONDS)
        _write_facts(folder, told | {"read_only": answer["read_only"]})


def remove(parent: Path, folder: Path, name: str) -> None:
    """Have the init in `parent` end a box, and wait until nothing is left of it but its logs."""
    with suppress(NotFound, Unavailable):
        calls.ask(parent, {"do": "remove", "name": name})
    for left in (messages.SOCKET, _FACTS):
        (folder / left).unlink(missing_ok=True)


def facts(folder: Path) -> dict[str, Any]:
    """Give what is written about a box; empty where there is none."""
    try:
        told: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told


def _write_facts(folder: Path, told: dict[str, Any]) -> None:
    near = folder / f".{_FACTS}"
    near.write_text(json.dumps(told), encoding="utf-8")
    near.rename(folder / _FACTS)
