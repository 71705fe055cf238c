package main

import "runtime"

// cell is a thread that is sealed before the others are. What it starts is sealed from its first instruction on, while the
// rest of this process can still reach for the courier.
type cell chan func()

// newCell seals a thread of its own. No other thread comes from it: Go has those of a locked thread made elsewhere.
func newCell() (cell, error) {
	works, sealed := make(cell), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		sealed <- sealThread()
		for work := range works {
			work()
		}
	}()
	return works, <-sealed
}

// do has the thread do some work, and waits for it.
func (c cell) do(work func() error) error {
	done := make(chan error, 1)
	c <- func() { done <- work() }
	return <-done
}
