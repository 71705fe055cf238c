"""What a hostile service would try. Each attempt does it for real, inside a service, and says what came of it.

An attempt gives a mapping from what was tried to what happened: the name of an errno, or "done" with what it got.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from support.runners import fail, options, program

Attempt = Callable[[Mapping[str, Any]], Mapping[str, object]]
_libc = ctypes.CDLL(None, use_errno=True)

SYSCALLS = {
    # by name: the numbers on x86_64 and aarch64, and arguments
    "mount": (165, 40, (b"none", b"/tmp", b"tmpfs", 0, None)),
    "umount2": (166, 39, (b"/proc", 2)),
    "pivot_root": (155, 41, (b"/tmp", b"/tmp")),
    "chroot": (161, 51, (b"/tmp",)),
    "unshare(user)": (272, 97, (0x10000000,)),
    "unshare(mount)": (272, 97, (0x00020000,)),
    "unshare(network)": (272, 97, (0x40000000,)),
    "setns": (308, 268, (0, 0)),
    "clone3": (435, 435, (None, 0)),
    "clone(user)": (56, 220, (0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)),
    "open_tree": (428, 428, (-100, b"/", 1)),
    "fsopen": (430, 430, (b"tmpfs", 0)),
    "mount_setattr": (442, 442, (-100, b"/", 0, None, 0)),
    "bpf": (321, 280, (0, None, 0)),
    "keyctl": (250, 219, (0, -3, 1)),
    "add_key": (248, 217, (b"user", b"k", b"x", 1, -3)),
    "perf_event_open": (298, 241, (None, 0, -1, -1, 0)),
    "io_uring_setup": (425, 425, (1, None)),
    "userfaultfd": (323, 282, (0,)),
    "kexec_load": (246, 104, (0, 0, None, 0)),
    "init_module": (175, 105, (None, 0, b"")),
    "open_by_handle_at": (304, 265, (-1, None, 0)),
    "syslog": (103, 116, (3, None, 0)),
    "reboot": (169, 142, (0, 0, 0, None)),
    "sethostname": (170, 161, (b"mine", 4)),
    "personality": (135, 92, (0x0040000,)),
}


HARMLESS = ("looks_around",)
"""Attempts that would hurt nobody if there were no sandbox."""


def attempt(function: Attempt) -> Attempt:
    """Make an attempt a service that tells what came of it as its error.

    It refuses to run where it could do harm: as anybody but the user that a sandboxed service is, in its own namespace.
    """

    def run(env: Mapping[str, str]) -> int:
        if function.__name__ not in HARMLESS:
            held_or_exit()
        return fail(env, code="told", message=json.dumps(function(options(env))))

    run.__name__ = function.__name__
    program(run)
    return function


def held_or_exit() -> None:
    """End this process at once if no sandbox is around it: what follows would be done to the machine."""
    if os.getuid() != 1000 or os.getppid() != 1 or not Path("/.host").is_dir():
        os._exit(99)


def tried(act: Callable[[], object]) -> str:
    """Do it; give "done ..." or the name of the errno that stopped it."""
    try:
        return f"done {act()!r}"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:  # noqa: BLE001  any other way to fail is a finding too
        return type(error).__name__


def syscall(name: str) -> str:
    """Make a system call by number, past every library."""
    x86_64, aarch64, arguments = SYSCALLS[name]
    number = x86_64 if os.uname().machine == "x86_64" else aarch64
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = _libc.syscall(ctypes.c_long(number), *passed)
    if result == 0 and name.startswith("clone("):
        os._exit(0)
    return f"done {result}" if result >= 0 else errno.errorcode[ctypes.get_errno()]


@attempt
def opens_sockets(_: Mapping[str, Any]) -> Mapping[str, object]:
    kinds = {
        "inet": (socket.AF_INET, socket.SOCK_STREAM),
        "inet datagram": (socket.AF_INET, socket.SOCK_DGRAM),
        "inet6": (socket.AF_INET6, socket.SOCK_STREAM),
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM),
        "netlink": (socket.AF_NETLINK, socket.SOCK_RAW),
        "packet": (socket.AF_PACKET, socket.SOCK_RAW),
        "vsock": (40, socket.SOCK_STREAM),
    }
    found: dict[str, object] = {name: tried(lambda k=kind: socket.socket(*k)) for name, kind in kinds.items()}
    found["inet pair"] = tried(lambda: socket.socketpair(socket.AF_INET, socket.SOCK_STREAM))
    pair = socket.socketpair()
    number = pair[0].fileno()
    found["connect"] = tried(lambda: pair[0].connect("/tmp/x"))
    found["bind"] = tried(lambda: pair[0].bind("/tmp/x"))
    found["interfaces"] = tried(lambda: Path("/proc/net/dev").read_text())
    found["own pair"] = tried(lambda: (os.write(number, b"x"), pair[1].recv(1)))
    return found


@attempt
def makes_system_calls(_: Mapping[str, Any]) -> Mapping[str, object]:
    return {name: syscall(name) for name in SYSCALLS}


@attempt
def looks_around(told: Mapping[str, Any]) -> Mapping[str, object]:
    """Look for other people's files and processes."""
    found: dict[str, object] = {name: tried(lambda n=name: Path(n).read_text()) for name in told["files"]}
    found |= {name: tried(lambda n=name: _names(n)) for name in told["folders"]}
    for way_out in ("/proc/1/root", "/proc/1/cwd", "/proc/self/root/.host", "/.host"):
        found[way_out] = tried(lambda w=way_out: _names(w))
    found["processes"] = sorted(int(name) for name in _names("/proc") if name.isdigit())
    found["mounts"] = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    found["handle"] = tried(lambda: os.open(b"/proc/1/mem", os.O_RDONLY))
    return found


@attempt
def attacks_processes(told: Mapping[str, Any]) -> Mapping[str, object]:
    found: dict[str, object] = {}
    for name, pid in told["pids"].items():
        found[f"kill {name}"] = tried(lambda p=pid: os.kill(p, signal.SIGKILL))
        found[f"ptrace {name}"] = _result(_libc.ptrace(16, pid, None, None))
        buffer = ctypes.create_string_buffer(64)
        vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)
        found[f"read {name}"] = _result(_libc.process_vm_readv(pid, vector, 1, vector, 1, 0))
        found[f"memory {name}"] = tried(lambda p=pid: Path(f"/proc/{p}/mem").read_bytes())
    found["signal everybody"] = tried(lambda: os.kill(-1, 0))
    found["signal keeper"] = tried(lambda: os.kill(1, signal.SIGKILL))
    found["keeper's environment"] = tried(lambda: Path("/proc/1/environ").read_bytes())
    found["keeper's descriptors"] = tried(lambda: _names("/proc/1/fd"))
    return found


@attempt
def writes_outside(told: Mapping[str, Any]) -> Mapping[str, object]:
    folders = ("/", "/usr", "/usr/bin", "/etc", "/dev", "/proc", "/data", "/service", sys.prefix, *told["folders"])
    found: dict[str, object] = {folder: tried(lambda f=folder: Path(f, "mine").write_text("x")) for folder in folders}
    found["overwrite"] = tried(lambda: Path("/data/persons.csv").write_text("x"))
    found["remove"] = tried(lambda: Path("/data/persons.csv").unlink())
    found["truncate"] = tried(lambda: os.truncate("/data/persons.csv", 0))
    found["chmod"] = tried(lambda: Path("/data/persons.csv").chmod(0o777))
    found["device"] = tried(lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(254, 0)))
    found["setuid file"] = tried(lambda: Path("/tmp/x").write_text("x") and Path("/tmp/x").chmod(0o4755))
    found["scratch"] = tried(lambda: Path("/tmp/mine").write_text("x"))
    found["shared memory"] = tried(lambda: Path("/dev/shm/mine").write_text("x"))
    found["data"] = tried(lambda: Path("/data/persons.csv").read_text())
    return found


@attempt
def fills_scratch(told: Mapping[str, Any]) -> Mapping[str, object]:
    written = 0

    def fill() -> None:
        nonlocal written
        for number in range(1000):
            with Path(f"/tmp/{number}").open("wb", buffering=0) as file:
                while file.tell() < told["bytes"] // 4:
                    written += file.write(bytes(1 << 16))

    end = tried(fill)
    files = tried(lambda: [Path(f"/tmp/f{number}").touch() for number in range(1_000_000)])
    return {"end": end, "written": written, "files": files}


@attempt
def becomes_somebody(_: Mapping[str, Any]) -> Mapping[str, object]:
    found: dict[str, object] = {
        "setuid 0": tried(lambda: os.setuid(0)),
        "setgid 0": tried(lambda: os.setgid(0)),
        "setgroups": tried(lambda: os.setgroups([0])),
        "setresuid": tried(lambda: os.setresuid(0, 0, 0)),
        "uid map": tried(lambda: Path("/proc/self/uid_map").write_text("0 0 1")),
        "nice": tried(lambda: os.nice(-10)),
        "more memory": tried(lambda: resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY,) * 2)),
        "core": tried(lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))),
    }
    status = Path("/proc/self/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    found |= {name: facts[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")}
    found["ids"] = [*os.getresuid(), *os.getresgid(), *os.getgroups()]
    return found


@attempt
def reads_what_it_inherited(told: Mapping[str, Any]) -> Mapping[str, object]:
    """Look for what the agent and the zygote knew: descriptors, environment, memory of the environment."""
    own = sorted(int(name) for name in _names("/proc/self/fd"))
    listing = own.pop()  # of this very folder
    found: dict[str, object] = {"descriptors": own, "environment": sorted(os.environ)}
    assert listing > own[-1]
    found["initial environment"] = tried(lambda: Path("/proc/self/environ").read_bytes().strip(b"\0").decode())
    fields = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    start, end = int(fields[47]), int(fields[48])
    memory = ctypes.string_at(start, end - start) if 0 < start < end else b""
    found["secret in memory"] = told["secret"].encode()[::-1] in memory
    found["anything in memory"] = memory.strip(b"\0").decode("latin-1")
    return found


@program
def forks_daemons(env: Mapping[str, str]) -> int:
    """Leave processes behind in every way: double fork, own session, ignored signals; then end well."""
    held_or_exit()
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
            if os.fork() == 0:
                os.closerange(0, 64)
                while True:
                    time.sleep(60)
            os._exit(0)
    return 0


@program
def forks_and_hangs(env: Mapping[str, str]) -> int:
    """The same, and outlive the deadline."""
    held_or_exit()
    forks_daemons(env)
    while True:
        time.sleep(60)


@program
def stops_its_keeper(env: Mapping[str, str]) -> int:
    """Try to hold the keeper up, so that nobody enforces the deadline."""
    held_or_exit()
    for number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTERM, signal.SIGINT):
        tried(lambda n=number: os.kill(1, n))
    tried(lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0)))
    tried(lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)))
    while True:
        time.sleep(60)


@program
def eats_memory(env: Mapping[str, str]) -> int:
    held_or_exit()
    taken = []
    for _ in range(options(env)["bytes"] >> 20):
        block = mmap.mmap(-1, 1 << 20)
        block.write(b"x" * (1 << 20))
        taken.append(block)
    return 0


@program
def eats_memory_in_children(env: Mapping[str, str]) -> int:
    """Stay below the limit in every process, and far above it in all of them together."""
    held_or_exit()
    share = options(env)["bytes"] // 8
    children = []
    for _ in range(8):
        if (pid := os.fork()) == 0:
            held = bytearray(b"x") * share
            time.sleep(60)
            os._exit(int(not held))
        children.append(pid)
    return int(os.wait()[1] != 0)


@program
def allocates(env: Mapping[str, str]) -> int:
    """Ask for memory the way Python code does, beyond what is allowed."""
    held_or_exit()
    held = []
    while True:
        held.append(bytearray(b"x") * (16 << 20))


@program
def bombs(env: Mapping[str, str]) -> int:
    """Fork without end; say how far it got."""
    held_or_exit()
    made = 0
    try:
        while made < 5000:
            if os.fork() == 0:
                while True:
                    time.sleep(60)
            made += 1
    except OSError as error:
        return fail(env, code="told", message=json.dumps({"made": made, "end": errno.errorcode[error.errno]}))
    return fail(env, code="told", message=json.dumps({"made": made, "end": "never"}))


@program
def spins(env: Mapping[str, str]) -> int:
    """Use CPU time in two processes at once."""
    held_or_exit()
    os.fork()
    while True:
        pass


@program
def runs_programs(env: Mapping[str, str]) -> int:
    """Run the system's programs: they are held as the service is."""
    done = subprocess.run(["id", "-u"], capture_output=True, text=True, check=False)
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=False).stdout
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    told = {"id": done.stdout.strip(), "caps": facts["CapBnd"].strip(), "seccomp": facts["Seccomp"].strip()}
    return fail(env, code="told", message=json.dumps(told))


def _result(value: int) -> str:
    return f"done {value}" if value >= 0 else errno.errorcode[ctypes.get_errno()]


def _names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())
