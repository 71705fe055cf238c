"""The first process of a world, a node or a container: it reaps what ends, keeps daemons up, and does what it is asked
over its socket. It is one small process that is forked from the world's, and ends everything inside when it ends.

Only the standard library is imported, and little of it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from shutil import which
from typing import Any, NoReturn

from dynamos.jobs import linux
from dynamos.testbed import accounts, children, messages, namespaces, roots
from dynamos.testbed.daemons import Daemon

Handler = Callable[[], None]


class Init:
    """Serves one socket as the first process of a pid namespace, until it is told to end or is killed."""

    def __init__(self, listener: socket.socket, show: list[str], *, inner: str) -> None:
        self._listener = listener
        self._show = show
        self._inner = inner  # what it can create: "node", "container" or nothing
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._calls: dict[int, socket.socket] = {}  # by the pid of who works for the caller
        self._daemons: dict[str, Daemon] = {}
        self._stops: dict[str, list[socket.socket]] = {}
        self._inside: dict[int, str] = {}
        self._removals: dict[int, list[socket.socket]] = {}
        self._do: dict[str, Callable[[socket.socket, dict[str, Any], list[int]], None]] = {
            "run": self._run, "put": self._put, "get": self._get, "start": self._start, "stop": self._stop,
            "daemons": self._tell_daemons, "namespace": self._give_namespace, "create": self._create,
            "remove": self._remove,
        }  # fmt: skip

    def serve(self) -> NoReturn:
        for sock in (self._listener, self._wake, self._woken):
            sock.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake, selectors.EVENT_READ, self._reap)
        self._listener.listen(128)
        while True:
            for key, _ in self._selector.select(self._patience()):
                try:
                    key.data()
                except Exception:  # noqa: BLE001: the top of the process, which must not end
                    children.say(traceback.format_exc())
            self._keep_daemons()

    # Callers

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            connection, _ = self._listener.accept()
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(connection))

    def _hear(self, connection: socket.socket) -> None:
        """Take one request; a caller that goes away takes what works for it along."""
        try:
            message, fds = messages.receive(connection)
        except OSError:
            message, fds = None, []
        if message is None:
            self._hang_up(connection)
            return
        keep = False
        try:
            keep = bool(self._do[message["do"]](connection, message, fds))
        except OSError as error:
            self._answer(connection, error=f"{error.strerror or error}", errno=error.errno)
        finally:
            if not keep:
                for fd in fds:
                    os.close(fd)

    def _hang_up(self, connection: socket.socket) -> None:
        for pid, caller in self._calls.items():
            if caller is connection:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        self._calls = {pid: caller for pid, caller in self._calls.items() if caller is not connection}
        for waiting in self._stops.values():
            if connection in waiting:
                waiting.remove(connection)
        with suppress(KeyError):
            self._selector.unregister(connection)
        connection.close()

    def _answer(self, connection: socket.socket, fds: tuple[int, ...] = (), **message: Any) -> None:
        with suppress(OSError):
            messages.send(connection, message, fds)

    # What it does

    def _run(self, connection: socket.socket, message: dict[str, Any], fds: list[int]) -> None:
        pid = children.fork(children.program(message), fds, user=str(message.get("user") or "root"))
        self._calls[pid] = connection

    def _put(self, connection: socket.socket, message: dict[str, Any], fds: list[int]) -> None:
        self._calls[children.fork(lambda: children.put(message["path"], message["mode"]), fds)] = connection

    def _get(self, connection: socket.socket, message: dict[str, Any], fds: list[int]) -> None:
        self._calls[children.fork(lambda: children.get(message["path"]), fds)] = connection

    def _start(self, connection: socket.socket, message: dict[str, Any], fds: list[int]) -> bool:
        name = message["name"]
        known = self._daemons.get(name)
        if known:
            same = known.spec == message and not known.stopping
            self._answer(connection, **({"pid": known.pid} if same else {"error": "taken", "errno": 17}))
            return False
        if which(message["argv"][0], path=(message.get("env") or {}).get("PATH", children.PATH)) is None:
            self._answer(connection, error=f"no such program: {message['argv'][0]}", errno=2)
            return False
        daemon = self._daemons[name] = Daemon(message, fds)
        self._answer(connection, pid=daemon.pid)
        return True

    def _stop(self, connection: socket.socket, message: dict[str, Any], _: list[int]) -> None:
        daemon = self._daemons.get(message["name"])
        if daemon is None:
            self._answer(connection, stopped=False)
            return
        self._stops.setdefault(message["name"], []).append(connection)
        if not daemon.stopping:
            daemon.stop()
        if not daemon.pid:
            self._gone(daemon)

    def _tell_daemons(self, connection: socket.socket, _: dict[str, Any], __: list[int]) -> None:
        told = {name: {"pid": each.pid, "restarts": each.restarts} for name, each in self._daemons.items()}
        self._answer(connection, daemons=told)

    def _give_namespace(self, connection: socket.socket, message: dict[str, Any], _: list[int]) -> None:
        fd = os.open(f"/proc/self/ns/{message['kind']}", os.O_RDONLY | os.O_CLOEXEC)
        self._answer(connection, (fd,), ok=True)
        os.close(fd)

    # What is inside

    def _create(self, connection: socket.socket, message: dict[str, Any], fds: list[int]) -> None:
        """Fork the init of a node or a container, and tell the caller when it is ready."""
        name = message["name"]
        if not self._inner or name in self._inside.values():
            self._answer(connection, error="taken", errno=17)
            return
        told, tell = os.pipe()
        pid = namespaces.fork_as_first()
        if pid == 0:
            listener = socket.socket(fileno=os.dup(fds[0]))
            self._abandon([*fds, told, connection.detach()])
            self._settle(listener, tell, message)
        os.close(tell)
        self._inside[pid] = name
        self._selector.register(told, selectors.EVENT_READ, lambda: self._settled(told, pid, name, connection))

    def _settle(self, listener: socket.socket, tell: int, message: dict[str, Any]) -> NoReturn:
        """Be the first process of what is inside: leave every namespace, lay a root, and serve."""
        try:
            os.setsid()
            namespaces.leave(message["name"])
            if self._inner == "node":
                roots.own_root(roots.STORE, self._show, message["size"])
            else:
                roots.own_root(f"{roots.CONTAINERS}/{message['name']}", self._show, "")
            accounts.write(message["name"])
            listener.listen(128)
            os.write(tell, b"{}")
            os.close(tell)
            Init(listener, self._show, inner="container" if self._inner == "node" else "").serve()
        except OSError as error:
            os.write(tell, json.dumps({"error": str(error), "errno": error.errno}).encode())
        except BaseException:  # noqa: BLE001: the top of the process
            children.say(traceback.format_exc())
        finally:
            os._exit(1)

    def _settled(self, told: int, pid: int, name: str, connection: socket.socket) -> None:
        self._selector.unregister(told)
        text = os.read(told, 65536)
        os.close(told)
        answer = json.loads(text) if text else {"error": "it ended while it was made", "errno": 5}
        if "error" not in answer:
            try:
                self._name_network(pid, name)
            except OSError as error:
                os.kill(pid, signal.SIGKILL)
                answer = {"error": str(error), "errno": error.errno}
        self._answer(connection, **answer)

    def _remove(self, connection: socket.socket, message: dict[str, Any], _: list[int]) -> None:
        """End what is inside by that name, and tell the caller when nothing is left of it."""
        pid = next((pid for pid, name in self._inside.items() if name == message["name"]), None)
        if pid is None:
            self._answer(connection, removed=False)
            return
        self._removals.setdefault(pid, []).append(connection)
        os.kill(pid, signal.SIGKILL)

    def _name_network(self, pid: int, name: str) -> None:
        """Let `ip netns` know what is inside by its name."""
        path = f"/run/netns/{name}"
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        linux.mount(f"/proc/{pid}/ns/net", path, "", linux.MS_BIND)

    def _forget(self, name: str) -> None:
        """Remove what is left of something inside that has ended: its network's name and what it wrote."""
        with suppress(OSError):
            linux.unmount(f"/run/netns/{name}")
        with suppress(OSError):
            os.unlink(f"/run/netns/{name}")
        if self._inner == "container":
            spec = {"argv": ["rm", "-rf", "--", f"{roots.CONTAINERS}/{name}"]}
            children.fork(children.program(spec), (0, 1, 2))

    def _abandon(self, fds: list[int]) -> None:
        """Close, as a forked child, what the parent had open."""
        signal.set_wakeup_fd(-1)
        for sock in {*self._calls.values(), *(key.fileobj for key in self._selector.get_map().values())}:
            with suppress(OSError):
                os.close(sock) if isinstance(sock, int) else sock.close()
        self._selector.close()
        self._woken.close()
        for daemon in self._daemons.values():
            daemon.close()
        for fd in fds:
            with suppress(OSError):
                os.close(fd)

    # Time and endings

    def _patience(self) -> float | None:
        due = min((daemon.due for daemon in self._daemons.values()), default=float("inf"))
        return None if due == float("inf") else max(0.0, due - time.monotonic())

    def _keep_daemons(self) -> None:
        now = time.monotonic()
        for daemon in list(self._daemons.values()):
            if daemon.due <= now:
                if daemon.stopping:
                    daemon.kill()
                else:
                    daemon.start()

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            self._wake.recv(4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        if connection := self._calls.pop(pid, None):
            self._answer(connection, code=code)
        elif name := self._inside.pop(pid, None):
            self._forget(name)
            for caller in self._removals.pop(pid, []):
                self._answer(caller, removed=True)
        elif daemon := next((each for each in self._daemons.values() if each.pid == pid), None):
            daemon.ended(code)
            if daemon.stopping:
                self._gone(daemon)

    def _gone(self, daemon: Daemon) -> None:
        name = daemon.spec["name"]
        del self._daemons[name]
        daemon.close()
        for connection in self._stops.pop(name, []):
            self._answer(connection, stopped=True)
