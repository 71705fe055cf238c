"""The system calls that a service may not make, as a filter that the kernel keeps for its whole life.

The namespaces take away what such calls would act on; the filter takes away the calls, so that a defect of the kernel
behind one of them is out of reach as well. Numbers are those of the kernel's tables for x86_64 and arm64.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from functools import cache

from dynamos.jobs import linux

# name: (x86_64, aarch64); None where the machine has no such call.
DENIED: dict[str, tuple[int | None, int | None]] = {
    # the network
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242),
    # mounts, roots and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "pidfd_getfd": (438, 438), "kcmp": (312, 272), "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # the kernel itself
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "syslog": (103, 116), "acct": (163, 89),
    "fanotify_init": (300, 262), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "memfd_secret": (447, 447), "modify_ldt": (154, None), "iopl": (172, None), "ioperm": (173, None),
    "personality": (135, 92), "nfsservctl": (180, 42), "lookup_dcookie": (212, 18),
    # the machine
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161),
    "setdomainname": (171, 162), "vhangup": (153, 58),
}  # fmt: skip

_NAMESPACES = (
    linux.NEW_MOUNT | linux.NEW_CGROUP | linux.NEW_UTS | linux.NEW_IPC | linux.NEW_USER | linux.NEW_PID | linux.NEW_NET
)
_SOCKETPAIR, _CLONE, _CLONE3 = (53, 199), (56, 220), 435
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000
_AF_UNIX = 1

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_MODE_FILTER = 2


@cache
def program(machine: str) -> bytes:
    """Give the filter for a machine such as "x86_64", as struct sock_filter[]. Raises KeyError for an unknown one."""
    column, architecture = _ARCHITECTURES[machine]
    refuse, absent = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    code = [
        _instruction(_LOAD, _ARCHITECTURE), *_unless(architecture, absent),
        _instruction(_LOAD, _NUMBER), *_when(_AT_LEAST, _X32, absent), *_when(_EQUAL, _CLONE3, absent),
    ]  # fmt: skip
    for numbers in DENIED.values():
        if (number := numbers[column]) is not None:
            code += _when(_EQUAL, number, refuse)
    code += [
        # a pair of connected sockets reaches nobody; event loops need it
        _instruction(_EQUAL, _SOCKETPAIR[column], 0, 4),
        _instruction(_LOAD, _FIRST_ARGUMENT), *_unless(_AF_UNIX, refuse), _instruction(_RETURN, _ALLOW),
        _instruction(_EQUAL, _CLONE[column], 0, 3),
        _instruction(_LOAD, _FIRST_ARGUMENT), *_when(_ANY_BIT, _NAMESPACES, refuse),
        _instruction(_RETURN, _ALLOW),
    ]  # fmt: skip
    return b"".join(code)


def install() -> None:
    """Hold this process and all its children to the filter. Needs no_new_privs or privileges; cannot be undone."""
    code = program(platform.machine())
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    filter_program = ctypes.create_string_buffer(header, len(header))
    linux.prctl(linux.PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(filter_program))


def available() -> bool:
    """Tell whether a filter for this machine is known here."""
    return sys.platform == "linux" and platform.machine() in _ARCHITECTURES


def _instruction(code: int, value: int, when: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when, otherwise, value)


def _when(test: int, value: int, answer: int) -> list[bytes]:
    return [_instruction(test, value, 0, 1), _instruction(_RETURN, answer)]


def _unless(value: int, answer: int) -> list[bytes]:
    return [_instruction(_EQUAL, value, 1, 0), _instruction(_RETURN, answer)]
