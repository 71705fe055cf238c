package main

import (
	"net"
	"os"
	"path/filepath"
	"sync"
)

// station is where one step's container comes to be told what it is to do.
type station struct {
	slot     string
	listener *net.UnixListener
	tell     func(news)
	lock     sync.Mutex
	wire     *net.UnixConn
	waiting  *arrived // an order for a container that has not come yet
	over     bool
}

// open makes the place where the container of a slot finds the courier.
func open(folder, slot string, tell func(news)) (*station, error) {
	// The kubelet makes the folder of a container that it starts early.
	for _, path := range []string{folder, filepath.Join(folder, "shm")} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, err
		}
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(folder, socketName), Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &station{slot: slot, listener: listener, tell: tell}, nil
}

// attend hears one container to its end. Nobody else is let in after it.
func (s *station) attend() {
	wire, err := s.listener.AcceptUnix()
	s.listener.Close() // takes its name away as well
	if err != nil {
		s.tell(news{Slot: s.slot, Lost: true})
		return
	}
	s.come(wire)
	for {
		var next told
		descriptors, err := receiveMessage(wire, &next)
		closeAll(descriptors)
		if err != nil {
			break
		}
		s.tell(news{Slot: s.slot, told: next})
		if next.Ended != nil {
			s.leave()
			return
		}
	}
	if s.leave() {
		s.tell(news{Slot: s.slot, Lost: true})
	}
}

func (s *station) come(wire *net.UnixConn) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.wire = wire
	if s.waiting != nil && !s.over {
		s.send(*s.waiting)
		s.waiting = nil
	}
}

func (s *station) leave() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	before := s.over
	s.over = true
	if s.wire != nil {
		s.wire.Close()
	}
	return !before
}

// give tells the container what to do, now or as soon as it is there. A step is killed also where it has no container yet.
func (s *station) give(next arrived) {
	s.lock.Lock()
	defer s.lock.Unlock()
	switch {
	case s.over:
		closeAll(next.descriptors)
	case s.wire != nil:
		s.send(next)
	case next.Kill != "":
		s.over = true
		if s.waiting != nil {
			closeAll(s.waiting.descriptors)
			s.waiting = nil
		}
		go s.tell(news{Slot: s.slot, told: told{Ended: &report{Why: next.Kill}}})
	default:
		s.waiting = &next
	}
}

func (s *station) send(next arrived) {
	_ = sendMessage(s.wire, next.order, next.descriptors...)
	closeAll(next.descriptors)
}
