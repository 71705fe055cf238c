"""The filter of system calls, run by a small machine for the kernel's filter language."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

import pytest

from dynamos.jobs import linux, seccomp

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HARMLESS = {"x86_64": {"read": 0, "write": 1, "openat": 257, "mmap": 9, "execve": 59, "futex": 202, "sendmsg": 46}}
HARMLESS["aarch64"] = {"read": 63, "write": 64, "openat": 56, "mmap": 222, "execve": 221, "futex": 98, "sendmsg": 211}
ALLOW = 0x7FFF0000


@dataclass(frozen=True)
class Call:
    """A system call as the kernel shows it to a filter."""

    number: int
    architecture: int
    first: int = 0

    def word(self, offset: int) -> int:
        return struct.unpack_from("=I", struct.pack("=IIQQ", self.number, self.architecture, 0, self.first), offset)[0]


def answer(program: bytes, call: Call) -> int | str:
    """Run the filter; give "allow" or the errno."""
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while True:
        operation, when, otherwise, value = code[at]
        at += 1
        if operation == 0x06:
            return "allow" if value == ALLOW else errno.errorcode[value & 0xFFFF]
        if operation == 0x20:
            accumulator = call.word(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[operation]
            at += when if holds else otherwise


@pytest.fixture(params=sorted(ARCHITECTURES))
def machine(request: pytest.FixtureRequest) -> str:
    return request.param


def ask(machine: str, number: int, first: int = 0) -> int | str:
    return answer(seccomp.program(machine), Call(number, ARCHITECTURES[machine], first))


def test_what_programs_need_is_allowed(machine: str) -> None:
    assert {name: ask(machine, number) for name, number in HARMLESS[machine].items()} == dict.fromkeys(
        HARMLESS[machine], "allow"
    )


def test_what_is_listed_is_refused(machine: str) -> None:
    column = sorted(ARCHITECTURES, reverse=True).index(machine)
    numbers = {name: pair[column] for name, pair in seccomp.DENIED.items() if pair[column] is not None}
    assert {name: ask(machine, number) for name, number in numbers.items()} == dict.fromkeys(numbers, "EPERM")


def test_no_number_is_listed_twice(machine: str) -> None:
    column = sorted(ARCHITECTURES, reverse=True).index(machine)
    numbers = [pair[column] for pair in seccomp.DENIED.values() if pair[column] is not None]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(("family", "expected"), [(1, "allow"), (2, "EPERM"), (10, "EPERM"), (16, "EPERM")])
def test_only_local_pairs_of_sockets_are_made(machine: str, family: int, expected: str) -> None:
    assert ask(machine, {"x86_64": 53, "aarch64": 199}[machine], family) == expected


def test_clone_makes_threads_and_children_but_no_namespaces(machine: str) -> None:
    clone = {"x86_64": 56, "aarch64": 220}[machine]
    assert ask(machine, clone, 17) == "allow"
    assert ask(machine, clone, 0x3D0F00) == "allow"  # a thread
    for flag in (linux.NEW_USER, linux.NEW_MOUNT, linux.NEW_NET, linux.NEW_PID, linux.NEW_CGROUP):
        assert ask(machine, clone, 17 | flag) == "EPERM"


def test_clone3_is_absent_so_that_libraries_use_clone(machine: str) -> None:
    assert ask(machine, 435) == "ENOSYS"


def test_other_ways_to_number_calls_are_absent(machine: str) -> None:
    program = seccomp.program(machine)
    assert answer(program, Call(0x40000029, ARCHITECTURES[machine])) == "ENOSYS"  # x32
    assert answer(program, Call(359, 0x40000003)) == "ENOSYS"  # i386


def test_an_unknown_machine_has_no_filter() -> None:
    with pytest.raises(KeyError):
        seccomp.program("sparc")
