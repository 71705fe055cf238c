package main

import (
	"fmt"
	"syscall"
	"unsafe"
)

// What a service may not call: the kernel keeps the filter for its whole life. It is why a service has no network although
// the containers of a pod share one, whatever the cluster's own policies do.

const (
	setNoNewPrivileges, setDumpable, setSubreaper = 38, 4, 36
	setModeFilter, syncThreads                    = 1, 1
	load, equal, atLeast, anyBit, give            = 0x20, 0x15, 0x35, 0x45, 0x06
	numberAt, architectureAt, firstArgumentAt     = 0, 4, 16
	allow, refuse, absent                         = 0x7FFF0000, 0x00050000 | uint32(syscall.EPERM), 0x00050000 | uint32(syscall.ENOSYS)
	x32, clone3Number, unixFamily                 = 0x40000000, 435, 1
	newNamespaces                                 = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
)

type instruction struct {
	code            uint16
	when, otherwise uint8
	value           uint32
}

type filterProgram struct {
	length uint16
	first  *instruction
}

func when(test uint16, value, answer uint32) []instruction {
	return []instruction{{test, 0, 1, value}, {give, 0, 0, answer}}
}

func unless(value, answer uint32) []instruction {
	return []instruction{{equal, 1, 0, value}, {give, 0, 0, answer}}
}

func filter() []instruction {
	code := []instruction{{load, 0, 0, architectureAt}}
	code = append(code, unless(architecture, absent)...)
	code = append(code, instruction{load, 0, 0, numberAt})
	code = append(code, when(atLeast, x32, absent)...)
	code = append(code, when(equal, clone3Number, absent)...)
	for _, number := range denied {
		code = append(code, when(equal, number, refuse)...)
	}
	// A pair of connected sockets reaches nobody; event loops need it.
	code = append(code, instruction{equal, 0, 4, socketpairNumber}, instruction{load, 0, 0, firstArgumentAt})
	code = append(code, unless(unixFamily, refuse)...)
	code = append(code, instruction{give, 0, 0, allow}, instruction{equal, 0, 3, cloneNumber}, instruction{load, 0, 0, firstArgumentAt})
	code = append(code, when(anyBit, newNamespaces, refuse)...)
	return append(code, instruction{give, 0, 0, allow})
}

// sealThread holds this thread, and what it starts, to the filter and to no new privileges.
func sealThread() error { return seal(0) }

// sealAll holds every thread of this process to them as well.
func sealAll() error { return seal(syncThreads) }

func seal(flags uintptr) error {
	if _, _, failed := syscall.RawSyscall6(syscall.SYS_PRCTL, setNoNewPrivileges, 1, 0, 0, 0, 0); failed != 0 {
		return fmt.Errorf("no new privileges: %w", failed)
	}
	code := filter()
	program := filterProgram{uint16(len(code)), &code[0]}
	// The threads get no_new_privs together with the filter.
	if at, _, failed := syscall.RawSyscall(seccompNumber, setModeFilter, flags, uintptr(unsafe.Pointer(&program))); failed != 0 {
		return fmt.Errorf("the filter of system calls: %w", failed)
	} else if at != 0 {
		return fmt.Errorf("thread %d has a filter of its own", at)
	}
	return nil
}

func prctl(option, value uintptr) {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, option, value, 0, 0, 0, 0)
}
