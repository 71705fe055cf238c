package main

import (
	"bufio"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const openFiles = 1024

// child is a process that we have started. ended gives what wait(2) says of it, once.
type child struct {
	pid   int
	ended chan int
	told  *net.UnixConn
	words <-chan word
}

var reaping sync.Mutex
var reaped = make(chan struct{})
var started []*child

// start runs a program with these descriptors from 0 on. Only one thing is started in a container's life.
func start(argv, env []string, files []uintptr) (*child, error) {
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", argv[0], err)
	}
	reaping.Lock()
	defer reaping.Unlock()
	attributes := &syscall.ProcAttr{Env: env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}
	pid, err := syscall.ForkExec(program, argv, attributes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", argv[0], err)
	}
	// If memory runs out, the service goes and not what tells of it.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("1000"), 0)
	c := &child{pid: pid, ended: make(chan int, 1)}
	if started = append(started, c); len(started) == 1 {
		go reap()
	}
	return c, nil
}

// startWaiter runs a program that will be told on descriptor 3 what service to become.
func startWaiter(argv []string, log *os.File) (*child, error) {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(ends[1])
	ours := os.NewFile(uintptr(ends[0]), "waiter")
	defer ours.Close()
	wire, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer nothing.Close()
	c, err := start(argv, os.Environ(), []uintptr{nothing.Fd(), log.Fd(), log.Fd(), uintptr(ends[1])})
	if err != nil {
		return nil, err
	}
	c.told = wire.(*net.UnixConn)
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(c.told); scanner.Scan(); {
			lines <- append([]byte(nil), scanner.Bytes()...)
		}
	}()
	c.words = words(lines)
	return c, nil
}

// hand gives a waiter its service, environment and descriptors.
func (c *child) hand(service string, env map[string]string, descriptors []int) error {
	message := map[string]any{"service": service, "env": env}
	return sendMessage(c.told, message, descriptors...)
}

// limit holds a process that runs already, and what it starts from now on.
func (c *child) limit(next order) {
	used := uint64(math.Ceil(cpuOf(c.pid)))
	if next.CPU > 0 {
		soft := uint64(math.Ceil(next.CPU)) + used
		limitOf(c.pid, syscall.RLIMIT_CPU, soft, soft+1)
	}
	if next.Scratch > 0 {
		limitOf(c.pid, syscall.RLIMIT_FSIZE, uint64(next.Scratch), uint64(next.Scratch))
	}
}

func limitOwn() {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: openFiles, Max: openFiles})
}

func limitFiles(next order) {
	if next.Scratch > 0 {
		_ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(next.Scratch), Max: uint64(next.Scratch)})
	}
}

func limitOf(pid, kind int, soft, hard uint64) {
	limit := syscall.Rlimit{Cur: soft, Max: hard}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), uintptr(kind), uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
}

// cpuOf gives the seconds that a process has used.
func cpuOf(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

// reap waits for every process that ends below this one, until there is none.
func reap() {
	defer close(reaped)
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return
		}
		reaping.Lock()
		for _, c := range started {
			if c.pid == pid {
				c.ended <- int(status)
			}
		}
		reaping.Unlock()
	}
}

// endAll ends everything that runs below this process: all of the container but us.
func endAll() {
	reaping.Lock()
	first := append([]*child(nil), started...)
	reaping.Unlock()
	if len(first) == 0 {
		return
	}
	for end := time.Now().Add(longestEnd); time.Now().Before(end); {
		if os.Getpid() == 1 {
			_ = syscall.Kill(-1, syscall.SIGKILL)
		} else {
			killBelow(first)
		}
		select {
		case <-reaped:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func killBelow(first []*child) {
	pids := []int{}
	for _, c := range first {
		_ = syscall.Kill(-c.pid, syscall.SIGKILL)
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	for _, field := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	for _, c := range first {
		pids = append(pids, c.pid)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

type used struct {
	cpu  float64
	peak int64
}

// usage gives what all processes that we have reaped have used.
func usage() used {
	var found syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &found); err != nil {
		return used{}
	}
	cpu := float64(found.Utime.Nano()+found.Stime.Nano()) / 1e9
	return used{cpu, found.Maxrss * 1024}
}
