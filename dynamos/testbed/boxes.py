"""A box: a set of namespaces with an init, which is what a node and a container are. It is a Host.

Everything goes through the init's socket in the testbed's folder, so that any thread of any process of the same user
may use it, and nothing of the caller but what is handed over gets in.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from dynamos.kit.errors import Broken, Conflict, JobFailed, NotFound, Unavailable
from dynamos.testbed import calls
from dynamos.testbed.hosts import Completed

_FACTS = "box.json"
_NOT_FOUND = 127


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
        try:
            calls.connect(self._folder).close()
        except (NotFound, OSError):
            return False
        return True

    @property
    def pid(self) -> int:
        """The pid of its init as this process sees it, for `nsenter --target`."""
        with closing(calls.connect(self._folder)) as connection:
            return calls.pid_of(connection)

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

        Raises JobFailed with its standard error where it fails, and TimedOut, which ends it and its session.
        """
        message = {"do": "run", "argv": list(argv), "env": dict(env or {}), "user": user, "cwd": cwd}
        code, stdout, stderr = calls.finish(self._folder, message, stdin=stdin, fds=fds, within=within)
        completed = Completed(tuple(argv), code, stdout, stderr)
        if check and code != 0:
            told = (stderr or stdout).decode(errors="replace").strip()
            raise JobFailed(f"{' '.join(argv)!r} ended with {code}: {told}", where=self._name, exit_code=code)
        return completed

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

        It is started again when it ends, with a bounded back-off, until `stop`. The same daemon may be started twice.
        Raises Conflict where another one has that name, NotFound where there is no such program.
        """
        message = {"name": name, "argv": list(argv), "env": dict(env or {}), "user": user, "cwd": cwd}
        log = os.open(self.log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            answer, _ = calls.ask(self._folder, {"do": "start", **message}, [nothing, log, log, *fds])
        except Conflict:
            raise Conflict(f"another daemon is called {name!r}", where=self._name, hint="stop it first") from None
        finally:
            os.close(log)
            os.close(nothing)
        return int(answer["pid"])

    def stop(self, name: str) -> None:
        """End the daemon of that name and wait until it is gone, at most some seconds before it is killed."""
        calls.ask(self._folder, {"do": "stop", "name": name})

    def daemons(self) -> dict[str, dict[str, int]]:
        """Give the `pid` (0 while it waits to be started again) and number of `restarts` of every daemon by name."""
        answer, _ = calls.ask(self._folder, {"do": "daemons"})
        told: dict[str, dict[str, int]] = answer["daemons"]
        return told

    def log(self, name: str) -> Path:
        """Give the file that a daemon's output goes to."""
        logs = self._folder / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        return logs / f"{name}.log"

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file, with its folders. Nobody sees half of it."""
        message = {"do": "put", "path": path, "mode": mode}
        code, _, stderr = calls.finish(self._folder, message, stdin=content, within=60.0)
        if code != 0:
            raise JobFailed(f"cannot write {path}: {stderr.decode(errors='replace').strip()}", where=self._name)

    def get(self, path: str) -> bytes:
        """Read a file. Raises NotFound."""
        code, stdout, stderr = calls.finish(self._folder, {"do": "get", "path": path}, within=60.0)
        if code == _NOT_FOUND:
            raise NotFound(f"there is no {path}", where=self._name)
        if code != 0:
            raise JobFailed(f"cannot read {path}: {stderr.decode(errors='replace').strip()}", where=self._name)
        return stdout

    def spawn(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a command that shares this process's terminal, and give it. Options are those of Popen."""
        return subprocess.Popen(self.enter_argv(argv), **options)

    def enter_argv(self, argv: Sequence[str]) -> list[str]:
        """Give the words that run a command in here with the caller's own input, output and terminal."""
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8"]
        term = [f"TERM={value}"] if (value := os.environ.get("TERM")) else []
        return ["nsenter", "--target", str(self.pid), "--all", "--wdns=/", "--", *clean, *term, *argv]

    @contextmanager
    def namespace(self, kind: str = "net") -> Iterator[int]:
        """Give a descriptor of one of its namespaces: `net`, `mnt`, `uts`, `ipc`, `pid` or `user`."""
        _, fds = calls.ask(self._folder, {"do": "namespace", "kind": kind})
        if not fds:
            raise Broken(f"{self._name!r} gave no namespace")
        try:
            yield fds[0]
        finally:
            os.close(fds[0])


def create(parent: Path, folder: Path, name: str, site: str, **facts: Any) -> None:
    """Have the init in `parent` create a box with its files in `folder`. Raises Conflict where it is there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(calls.listen(folder)) as listener:
        calls.ask(parent, {"do": "create", "name": name, **facts}, [listener.fileno()], within=60.0)
    (folder / _FACTS).write_text(json.dumps({"name": name, "site": site}), encoding="utf-8")


def remove(parent: Path, folder: Path, name: str) -> None:
    """Have the init in `parent` end a box, and wait until nothing is left of it but its logs."""
    with suppress(NotFound, Unavailable):
        calls.ask(parent, {"do": "remove", "name": name})
    for left in (calls.SOCKET, _FACTS):
        (folder / left).unlink(missing_ok=True)


def facts(folder: Path) -> dict[str, str]:
    """Give what is written about a box; empty where there is none."""
    try:
        told: dict[str, str] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told
