package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	greetSeconds = 10 * time.Second
	lineBytes    = 64 << 20
)

// assignment of the whole pod, given once. The names are those of streams: between steps, into the pod and out of it.
type assignment struct {
	Steps    map[string]order `json:"steps"` // by slot
	Inner    []string         `json:"inner"`
	Incoming []string         `json:"incoming"`
	Outgoing []string         `json:"outgoing"`
}

// greeting is the first line of a connection: what the agent wants it for.
type greeting struct {
	Control bool   `json:"control"`
	Stream  string `json:"stream"`
}

// command is what the agent says on its control connection.
type command struct {
	Assign *assignment `json:"assign"`
	Kill   string      `json:"kill"` // a slot
	Why    string      `json:"why"`
}

// news is what the agent is told of one step.
type news struct {
	Slot string `json:"slot"`
	told
	Lost bool `json:"lost,omitempty"` // its container ended, and no report came
}

// courier of one pod.
type courier struct {
	settings
	stations map[string]*station
	pipes    *pipes
	lock     sync.Mutex
	control  net.Conn
	assigned bool
	given    chan struct{} // closed once there is an assignment
}

// serve is the life of the courier: it ends when its agent goes, and the pod with it.
func serve(s settings) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	prctl(setDumpable, 0)
	c := &courier{settings: s, stations: map[string]*station{}, pipes: newPipes(), given: make(chan struct{})}
	config, err := mutual(s.pass)
	if err != nil {
		return err
	}
	if err := installLaunch(s.folder); err != nil {
		return err
	}
	for _, slot := range s.slots {
		if c.stations[slot], err = open(s.step(slot), slot, c.tell); err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.folder, readyName), nil, 0o444); err != nil {
		return err
	}
	gone := make(chan error, 1)
	go c.accept(listener, config, gone)
	go c.hail()
	select {
	case <-stop:
		return nil
	case err := <-gone:
		return err
	}
}

func (c *courier) accept(listener net.Listener, config *tls.Config, gone chan<- error) {
	time.AfterFunc(c.patience, func() {
		c.lock.Lock()
		defer c.lock.Unlock()
		if c.control == nil {
			gone <- fmt.Errorf("nobody came within %s", c.patience)
		}
	})
	for {
		connection, err := listener.Accept()
		if err != nil {
			gone <- err
			return
		}
		go c.greet(connection, config, gone)
	}
}

// greet finds out who comes and what for. Who has not the agent's key gets nothing.
func (c *courier) greet(raw net.Conn, config *tls.Config, gone chan<- error) {
	connection := tls.Server(raw, config)
	_ = connection.SetDeadline(time.Now().Add(greetSeconds))
	reader := bufio.NewReaderSize(connection, chunkBytes)
	line, err := reader.ReadBytes('\n')
	var hello greeting
	if err != nil || json.Unmarshal(line, &hello) != nil {
		raw.Close()
		return
	}
	_ = connection.SetDeadline(time.Time{})
	if !hello.Control {
		c.carry(connection, reader, hello.Stream)
		return
	}
	notice(raw)
	if !c.take(connection) {
		connection.Close()
		return
	}
	gone <- c.obey(reader)
}

// take makes this the one control connection there ever is.
func (c *courier) take(connection net.Conn) bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.control != nil {
		return false
	}
	c.control = connection
	for _, station := range c.stations {
		go station.attend()
	}
	return true
}

func (c *courier) tell(message news) {
	line, err := json.Marshal(message)
	if err != nil {
		return
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.control != nil {
		_, _ = c.control.Write(append(line, '\n'))
	}
}

// obey does what the agent says until it goes.
func (c *courier) obey(reader io.Reader) error {
	decoder := json.NewDecoder(reader)
	for {
		var next command
		if err := decoder.Decode(&next); err != nil {
			if err == io.EOF {
				return nil
			}
			return fmt.Errorf("the agent is gone: %w", err)
		}
		if next.Assign != nil {
			if err := c.assign(*next.Assign); err != nil {
				return err
			}
		}
		if station := c.stations[next.Kill]; station != nil {
			station.give(arrived{order: order{Kill: next.Why}})
		}
	}
}

// assign gives every step its order and its streams.
func (c *courier) assign(work assignment) error {
	if c.assigned {
		return fmt.Errorf("a second assignment for a pod that is used once")
	}
	c.assigned = true
	if err := c.pipes.make(work); err != nil {
		return err
	}
	for slot, order := range work.Steps {
		station := c.stations[slot]
		if station == nil {
			return fmt.Errorf("there is no container for step %s", slot)
		}
		descriptors, err := c.pipes.of(order)
		if err != nil {
			return err
		}
		station.give(arrived{order, descriptors})
	}
	close(c.given)
	return nil
}

// installLaunch puts this program where the other containers find it, with nothing half written under its name.
func installLaunch(folder string) error {
	bin := filepath.Join(folder, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	own, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer own.Close()
	half := filepath.Join(bin, ".half")
	file, err := os.OpenFile(half, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o555)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, own); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(half, filepath.Join(bin, launchName))
}

// waitUntilReady is the hook that the kubelet waits for before it starts the next container.
func waitUntilReady(folder string) error {
	end := time.Now().Add(greetSeconds)
	for time.Now().Before(end) {
		if _, err := os.Stat(filepath.Join(folder, readyName)); err == nil {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return fmt.Errorf("the courier is not ready")
}
