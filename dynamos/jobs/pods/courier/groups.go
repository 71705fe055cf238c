package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// group is the control group of the container, of either version; zero where this is no container of ours alone.
type group struct {
	alone  bool
	killed int64
}

func ownGroup() group {
	g := group{alone: os.Getpid() == 1}
	g.killed = g.kills()
	return g
}

// counts tells whether the time of all processes of the container is known.
func (g group) counts() bool { return g.alone && g.cpu() > 0 }

// cpu gives the seconds that all processes of the container have used.
func (g group) cpu() float64 {
	if value := number(field("/sys/fs/cgroup/cpu.stat", "usage_usec")); value > 0 {
		return float64(value) / 1e6
	}
	return float64(number(first("/sys/fs/cgroup/cpuacct/cpuacct.usage", "/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage"))) / 1e9
}

// limitsMemory tells whether the memory of all processes of the container has a bound.
func (g group) limitsMemory() bool {
	text := first("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
	return g.alone && text != "" && text != "max" && number(text) < 1<<60
}

func (g group) kills() int64 {
	for _, path := range []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"} {
		if text := field(path, "oom_kill"); text != "" {
			return number(text)
		}
	}
	return 0
}

func (g group) wasOutOfMemory() bool { return g.alone && g.kills() > g.killed }

// isolation names what holds between the service and everything else, as far as this process can see for itself.
func isolation(g group) []string {
	found := []string{"seccomp", "network"} // sealed, or we would not be here: nothing can make or use a socket
	if g.alone {
		found = append(found, "pid", "mount")
	}
	if os.Getuid() != 0 {
		found = append(found, "non-root")
	}
	if strings.Trim(field("/proc/self/status", "CapEff:")+field("/proc/self/status", "CapBnd:"), "0") == "" {
		found = append(found, "capabilities")
	}
	var facts syscall.Statfs_t
	if syscall.Statfs("/", &facts) == nil && facts.Flags&syscall.MS_RDONLY != 0 {
		found = append(found, "read-only")
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil && ownSharedMemory(string(mounts)) {
		found = append(found, "ipc")
	}
	if g.limitsMemory() {
		found = append(found, "memory")
	}
	if g.counts() {
		return append(found, "cpu")
	}
	return append(found, "cpu-of-each")
}

// ownSharedMemory tells whether /dev/shm is of this container alone: the runtime's is of the pod.
func ownSharedMemory(mounts string) bool {
	for _, line := range strings.Split(mounts, "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == "/dev/shm" && strings.Contains(fields[3], "/shm") {
			return true
		}
	}
	return false
}

func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(text), "\n") {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == name {
			return fields[1]
		}
	}
	return ""
}

func first(paths ...string) string {
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	return ""
}

func number(text string) int64 {
	value, _ := strconv.ParseInt(text, 10, 64)
	return value
}
