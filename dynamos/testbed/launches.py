"""The launch of a guest: a user-mode Linux, held to what works on every machine.

Two things have to be got around. A processor with large registers (AMX) has more state than this guest kernel's buffer
holds, and it dies at its first program. So it is kept from asking for that state, by a filter of its system calls, and
its programs do not use the registers that would be lost (`GLIBC_TUNABLES`). And the host's taps send the signal that
something has come a moment before they are ready to be asked what: now and then a guest asks too early, and would leave
a packet where it is until the next one comes. So it is made to ask again, every few milliseconds.

Only the standard library: `python -I -S` runs this in the WAN's box.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import sys
import time
from contextlib import suppress

from dynamos.jobs import linux

FOLDER = "/run/wan"
"""Where, in the WAN's box, guests find what they begin with."""
PAIRS = 32
"""Links that one guest carries, each with two of its devices."""

_PROGRAM = "linux.uml"
_REMIND_SECONDS = 0.004
_MEMORY = "256M"
_SLOW_AND_UNUSED = (
    "raid6_select_algo", "init_zswap", "init_jfs_fs", "init_xfs_fs", "init_btrfs_fs", "pty_init"
)  # fmt: skip
_PLAIN = "AVX,AVX2,AVX512F,AVX512VL,AVX512BW,AVX512DQ,AVX_Fast_Unaligned_Load,XSAVE,XSAVEC,BMI2"

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _REQUEST, _KIND = 0, 16, 32
_PTRACE, _GET_REGISTERS, _SET_REGISTERS, _LARGE_STATE = 101, 0x4204, 0x4205, 0x202
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_MODE_FILTER = 2


def main() -> None:
    """Become the guest whose number is on the command line; descriptors 3 and 4 are its console."""
    number = int(sys.argv[1])
    processors = sorted(os.sched_getaffinity(0))
    # On one processor a guest's kernel and its programs take turns at once, and packets keep their order.
    with suppress(OSError):
        os.sched_setaffinity(0, {processors[-1 - number % len(processors)]})
    # Until the guest's kernel can take it, the signal would end the guest. It also sets back what it found, once.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    _remind(os.getpid())
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    _install(filter_code())
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": "/dev/shm"}  # noqa: S108
    os.execvpe(_PROGRAM, [_PROGRAM, *arguments(number)], environment)  # noqa: S606


def _remind(guest: int) -> None:
    """Leave a child behind that makes this process, whatever it becomes, look for packets, as long as it lives."""
    if os.fork():
        return
    os.close(3)
    os.close(4)
    while os.getppid() == guest:
        time.sleep(_REMIND_SECONDS)
        with suppress(ProcessLookupError):
            os.kill(guest, signal.SIGIO)
    os._exit(0)


def arguments(number: int) -> list[str]:
    """Give what the guest's kernel is told: its root is that of the box, read-only, and its devices wait for taps."""
    first = number * PAIRS
    taps = [device(slot, end) for slot in range(first, first + PAIRS) for end in ("a", "b")]
    tunables = ":".join(("glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in _PLAIN.split(",")),))
    return [
        f"mem={_MEMORY}", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={FOLDER}/init",
        "con=null", "con0=null,fd:1", "con1=fd:3,fd:4", "console=tty1", "quiet", f"uml_dir={FOLDER}/",
        f"initcall_blacklist={','.join(_SLOW_AND_UNUSED)}", "lpj=4000000", "ipv6.disable_ipv6=1",
        f"guest={number}", f"GLIBC_TUNABLES={tunables}",
        *(f"vec{index}:transport=tap,ifname={tap},gro=1" for index, tap in enumerate(taps)),
    ]  # fmt: skip


def device(slot: int, end: str) -> str:
    """Give the name, in the WAN's box, of one end ("a" or "b") of the link in a slot."""
    return f"e{slot}{end}"


def filter_code() -> bytes:
    """Give the filter that says there is no such thing as the large state, as struct sock_filter[]."""
    return b"".join((
        _instruction(_LOAD, _NUMBER), _instruction(_EQUAL, _PTRACE, 0, 6),
        _instruction(_LOAD, _REQUEST), _instruction(_EQUAL, _GET_REGISTERS, 1, 0),
        _instruction(_EQUAL, _SET_REGISTERS, 0, 3),
        _instruction(_LOAD, _KIND), _instruction(_EQUAL, _LARGE_STATE, 0, 1),
        _instruction(_RETURN, _FAIL | errno.ENODEV), _instruction(_RETURN, _ALLOW),
    ))  # fmt: skip


def _install(code: bytes) -> None:
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    program = ctypes.create_string_buffer(header, len(header))
    linux.prctl(linux.PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))


def _instruction(code: int, value: int, when: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when, otherwise, value)
