package main

import (
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	logBytes     = 4096
	errorBytes   = 16384
	settleMillis = 500
)

// kept is a pipe of which the end is kept, or the beginning, while it is emptied so that nobody is held up.
type kept struct {
	write *os.File // for the service: it blocks
	read  *os.File
	most  int
	tail  bool
	lock  sync.Mutex
	bytes []byte
	done  chan struct{}
}

func keep(most int, tail bool) (*kept, error) {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(ends[0], true); err != nil {
		return nil, err
	}
	k := &kept{
		read: os.NewFile(uintptr(ends[0]), "kept"), write: os.NewFile(uintptr(ends[1]), "service"),
		most: most, tail: tail, done: make(chan struct{}),
	}
	go k.empty()
	return k, nil
}

func (k *kept) empty() {
	defer close(k.done)
	chunk := make([]byte, 65536)
	for {
		n, err := k.read.Read(chunk)
		k.lock.Lock()
		if k.bytes = append(k.bytes, chunk[:n]...); len(k.bytes) > k.most {
			if k.tail {
				k.bytes = append([]byte(nil), k.bytes[len(k.bytes)-k.most:]...)
			} else {
				k.bytes = k.bytes[:k.most]
			}
		}
		k.lock.Unlock()
		if err != nil {
			return
		}
	}
}

// close lets go of the service's end here.
func (k *kept) close() {
	_ = k.write.Close()
}

// text gives what was kept, after everybody who could write more has ended.
func (k *kept) text() string {
	k.close()
	_ = k.read.SetReadDeadline(time.Now().Add(settleMillis * time.Millisecond))
	<-k.done
	k.lock.Lock()
	defer k.lock.Unlock()
	return string(k.bytes)
}
