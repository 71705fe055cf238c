package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	setPipeSize = 1031
	pipeBytes   = 1 << 20
	chunkBytes  = 256 << 10
)

// pipes are the streams of a pod by name: ends that steps get, and ends that this process carries on.
type pipes struct {
	lock    sync.Mutex
	reading map[string]int // ends for steps
	writing map[string]int
	into    map[string]*os.File // ends of ours
	outOf   map[string]*os.File
}

func newPipes() *pipes {
	return &pipes{
		reading: map[string]int{}, writing: map[string]int{}, into: map[string]*os.File{}, outOf: map[string]*os.File{},
	}
}

func (p *pipes) make(work assignment) error {
	p.lock.Lock()
	defer p.lock.Unlock()
	for _, name := range work.Inner {
		ends, err := pipe()
		if err != nil {
			return err
		}
		p.reading[name], p.writing[name] = ends[0], ends[1]
	}
	for _, name := range work.Incoming {
		ends, err := pipe()
		if err != nil {
			return err
		}
		p.reading[name], p.into[name] = ends[0], ours(ends[1], name)
	}
	for _, name := range work.Outgoing {
		ends, err := pipe()
		if err != nil {
			return err
		}
		p.outOf[name], p.writing[name] = ours(ends[0], name), ends[1]
	}
	return nil
}

// of gives a step the ends of its streams, inputs first. They are its own from then on.
func (p *pipes) of(step order) ([]int, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	var found []int
	for i, name := range append(append([]string{}, step.Inputs...), step.Outputs...) {
		ends := p.reading
		if i >= len(step.Inputs) {
			ends = p.writing
		}
		end, here := ends[name]
		if !here {
			return found, fmt.Errorf("there is no stream %q", name)
		}
		delete(ends, name)
		found = append(found, end)
	}
	return found, nil
}

// claim gives our end of a stream, once.
func (p *pipes) claim(name string) (file *os.File, leaves bool) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if file, leaves = p.outOf[name]; leaves {
		delete(p.outOf, name)
		return file, true
	}
	file = p.into[name]
	delete(p.into, name)
	return file, false
}

// carry brings one stream into the pod or out of it. Where an end goes, the other is told by the end of the stream.
func (c *courier) carry(connection *tls.Conn, reader *bufio.Reader, name string) {
	defer connection.Close()
	select {
	case <-c.given:
	case <-time.After(greetSeconds):
		return
	}
	file, leaves := c.pipes.claim(name)
	if file == nil {
		return
	}
	defer file.Close()
	chunk := make([]byte, chunkBytes)
	if !leaves {
		_, _ = io.CopyBuffer(plainWriter{file}, plainReader{reader}, chunk)
		return
	}
	go func() { // the agent sends nothing here: what comes is its end
		_, _ = io.Copy(io.Discard, reader)
		file.Close()
	}()
	if _, err := io.CopyBuffer(plainWriter{connection}, plainReader{file}, chunk); err == nil {
		_ = connection.CloseWrite()
	} else {
		connection.NetConn().Close() // so that it does not look complete
	}
}

// What io.Copy would find out of these, it would use with buffers of its own.
type plainReader struct{ io.Reader }
type plainWriter struct{ io.Writer }

func pipe() ([2]int, error) {
	var ends [2]int
	err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC)
	if err == nil { // more than a user may have in pipes: the usual size does
		_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(ends[1]), setPipeSize, pipeBytes)
	}
	return ends, err
}

// ours makes an end that does not hold up a thread. Those of steps do block, as services expect.
func ours(end int, name string) *os.File {
	_ = syscall.SetNonblock(end, true)
	return os.NewFile(uintptr(end), name)
}
