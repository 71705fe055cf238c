"""The first process of a world, a node or a container: it reaps what ends, keeps daemons up, and does what it is asked
over its socket. It is small, forked from the world's, and everything inside ends when it ends.

Only the standard library is imported, and little of it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from dynamos.testbed import accounts, children, messages, namespaces, roots
from dynamos.testbed.daemons import Daemons
from dynamos.testbed.insides import Insides

Message = dict[str, Any]
Answer = Message | None
"""What a caller is told at once; None where it is told later."""

_WITHIN = {"world": "node", "node": "container"}
_BACKLOG = 128


class Init:
    """Serves one socket as the first process of a pid namespace, until it is killed.

    `kind` is what it is the init of: a world, which can make nodes, a node, which can make containers, or a container.
    """

    def __init__(self, listener: socket.socket, kind: str, show: list[str], *, shield: bool) -> None:
        self._listener = listener
        self._kind = kind
        self._show = show
        self._shield = shield
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._callers: set[socket.socket] = set()
        self._working: dict[int, socket.socket] = {}  # by the pid of who works for a caller
        self._stopping: dict[str, list[socket.socket]] = {}
        self._removing: dict[str, list[socket.socket]] = {}
        self._failed: dict[int, tuple[socket.socket, Message]] = {}  # told when nothing is left of it
        self._daemons = Daemons()
        self._insides = Insides()
        self._does: dict[str, Callable[[socket.socket, Message, list[int]], Answer]] = {
            "run": self._run,
            "put": self._put,
            "get": self._get,
            "start": lambda _, message, fds: self._daemons.start(message, fds),
            "stop": self._stop,
            "daemons": lambda *_: {"daemons": self._daemons.told()},
            "namespace": self._give_namespace,
            "create": self._create,
            "remove": self._remove,
        }

    def serve(self) -> NoReturn:
        """Work until the end."""
        for sock in (self._listener, self._wake, self._woken):
            sock.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake, selectors.EVENT_READ, self._reap)
        self._listener.listen(_BACKLOG)
        while True:
            for key, _ in self._selector.select(self._daemons.patience()):
                try:
                    key.data()
                except Exception:  # noqa: BLE001  the top of the process, which must not end
                    children.say(traceback.format_exc())
            self._daemons.proceed()

    # Callers

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            caller, _ = self._listener.accept()
            self._callers.add(caller)
            self._selector.register(caller, selectors.EVENT_READ, lambda: self._hear(caller))

    def _hear(self, caller: socket.socket) -> None:
        """Take one request."""
        try:
            message, fds = messages.receive(caller)
        except OSError:
            message, fds = None, []
        if message is None:
            self._hang_up(caller)
            return
        answer: Answer = {}
        try:
            answer = self._does[message.pop("do")](caller, message, fds)
        except OSError as error:
            answer = {"error": error.strerror or str(error), "errno": error.errno}
        finally:
            if not (answer and answer.pop("kept", False)):
                _close(fds)
            if answer is not None:
                self._answer(caller, answer)

    def _hang_up(self, caller: socket.socket) -> None:
        """Let a caller go, and end what works for it."""
        for pid in [pid for pid, other in self._working.items() if other is caller]:
            del self._working[pid]
            children.end(pid, signal.SIGKILL)
        for waiting in (*self._stopping.values(), *self._removing.values()):
            if caller in waiting:
                waiting.remove(caller)
        self._callers.discard(caller)
        self._selector.unregister(caller)
        caller.close()

    def _answer(self, caller: socket.socket, answer: Message, fds: tuple[int, ...] = ()) -> None:
        with suppress(OSError):  # it may have gone
            messages.send(caller, answer, fds)

    # What it does

    def _run(self, caller: socket.socket, message: Message, fds: list[int]) -> None:
        user = str(message.get("user") or "root")
        self._working[children.fork(children.program(message), fds, user=user)] = caller

    def _put(self, caller: socket.socket, message: Message, fds: list[int]) -> None:
        self._working[children.fork(lambda: children.put(message["path"], message["mode"]), fds)] = caller

    def _get(self, caller: socket.socket, message: Message, fds: list[int]) -> None:
        self._working[children.fork(lambda: children.get(message["path"]), fds)] = caller

    def _stop(self, caller: socket.socket, message: Message, _: list[int]) -> Answer:
        if not self._daemons.stop(message["name"]):
            return {}
        self._stopping.setdefault(message["name"], []).append(caller)
        return None

    def _remove(self, caller: socket.socket, message: Message, _: list[int]) -> Answer:
        if not self._insides.kill(message["name"]):
            return {}
        self._removing.setdefault(message["name"], []).append(caller)
        return None

    def _give_namespace(self, caller: socket.socket, message: Message, _: list[int]) -> None:
        fd = os.open(f"/proc/self/ns/{message['kind']}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._answer(caller, {}, (fd,))
        finally:
            os.close(fd)

    def _create(self, caller: socket.socket, message: Message, fds: list[int]) -> Answer:
        """Fork the init of a box inside; the caller is told when that is ready."""
        name = message["name"]
        if name in self._insides:
            return {"error": f"{name} is there already", "errno": 17}
        told, tell = os.pipe()
        pid = namespaces.fork_as_first()
        if pid == 0:
            listener = socket.socket(fileno=os.dup(fds[0]))
            os.close(told)
            _close(fds)
            self._abandon()
            self._be_inside(listener, tell, message)
        os.close(tell)
        self._insides.add(pid, name)
        self._selector.register(told, selectors.EVENT_READ, lambda: self._made(told, pid, caller))
        return None

    def _be_inside(self, listener: socket.socket, tell: int, message: Message) -> NoReturn:
        """Be the first process of a box: leave every namespace, lay a root, and serve."""
        name, kind = message["name"], _WITHIN[self._kind]
        try:
            os.setsid()
            namespaces.leave(name)
            if kind == "node":
                read_only = roots.node_root(self._show, message["size"], shield=self._shield)
            else:
                read_only = roots.container_root(name, self._show, shield=self._shield)
            accounts.write(name)
            listener.listen(_BACKLOG)
            os.write(tell, json.dumps({"read_only": read_only}).encode())
            os.close(tell)
            Init(listener, kind, self._show, shield=self._shield).serve()
        except OSError as error:
            os.write(tell, json.dumps({"error": str(error), "errno": error.errno}).encode())
        except BaseException:  # noqa: BLE001  the top of the process
            children.say(traceback.format_exc())
        finally:
            os._exit(1)

    def _made(self, told: int, pid: int, caller: socket.socket) -> None:
        """Tell a caller what came of its box."""
        self._selector.unregister(told)
        text = os.read(told, 1 << 16)
        os.close(told)
        answer = json.loads(text) if text else {"error": "it ended while it was made", "errno": 5}
        if "error" not in answer:
            try:
                self._insides.show_network(pid)
            except (OSError, KeyError) as error:
                answer = {"error": str(error), "errno": 5}
        if "error" in answer and self._insides.kill_pid(pid):
            self._failed[pid] = (caller, answer)
        else:
            self._answer(caller, answer)

    def _abandon(self) -> None:
        """Close, as a forked child, what the parent has open."""
        signal.set_wakeup_fd(-1)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
        self._selector.close()
        for sock in (self._listener, self._wake, self._woken, *self._callers):
            sock.close()
        self._daemons.close()

    # Endings

    def _reap(self) -> None:
        """Take the exit of every child that has ended, our own and those left to us."""
        with suppress(BlockingIOError):
            self._wake.recv(4096)
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if daemon := self._daemons.by_pid(ended.si_pid):
                daemon.signal(signal.SIGKILL)  # what it leaves behind, while its number is still its own
            _, status = os.waitpid(ended.si_pid, 0)
            self._ended(ended.si_pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        if caller := self._working.pop(pid, None):
            self._answer(caller, {"code": code})
        elif daemon := self._daemons.by_pid(pid):
            if name := self._daemons.ended(daemon, code):
                for waiting in self._stopping.pop(name, []):
                    self._answer(waiting, {})
        elif name := self._insides.forget(pid):
            for waiting in self._removing.pop(name, []):
                self._answer(waiting, {})
            if pid in self._failed:
                self._answer(*self._failed.pop(pid))


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
