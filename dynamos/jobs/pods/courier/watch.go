package main

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// arrived is an order with the streams that came with it, inputs first.
type arrived struct {
	order
	descriptors []int
}

// watch sees one step to its end.
type watch struct {
	*keeper
	orders <-chan arrived
	stop   <-chan os.Signal

	ordered  bool
	deadline <-chan time.Time
	check    <-chan time.Time
	cpu      float64 // seconds that the container may have used by then
	why      string
	failed   string
}

// untilItEnds waits for orders, runs what they say, and reports. It ends also when the courier does.
func (w *watch) untilItEnds() error {
	for {
		select {
		case next, here := <-w.orders:
			if !here {
				return w.alone("the courier is gone")
			}
			if done, err := w.obey(next); done {
				return err
			}
		case <-w.stop:
			return w.alone("told to end")
		case next, here := <-w.spoken():
			w.hear(next, here)
		case status := <-w.ended():
			return w.finish(status)
		case <-w.deadline:
			return w.end("deadline")
		case <-w.check:
			if w.group.cpu() > w.cpu {
				return w.end("cpu-limit")
			}
		}
	}
}

func (w *watch) alone(why string) error {
	endAll()
	return errors.New(why)
}

func (w *watch) obey(next arrived) (bool, error) {
	if next.Kill != "" {
		closeAll(next.descriptors)
		return true, w.end(next.Kill)
	}
	if w.ordered {
		closeAll(next.descriptors)
		return true, w.alone("two orders for one step")
	}
	w.ordered = true
	w.deadline = time.After(seconds(next.Deadline))
	if w.group.counts() {
		ticker := time.NewTicker(cpuCheck)
		w.check, w.cpu = ticker.C, w.group.cpu()+next.CPU
	}
	if err := w.begin(next); err != nil {
		return true, w.fail(err)
	}
	w.said.close()
	return false, nil
}

// ended gives the end of what this container runs.
func (w *watch) ended() <-chan int {
	if w.service != nil {
		return w.service.ended
	}
	if w.waiter != nil {
		return w.waiter.ended
	}
	return nil
}

func (w *watch) spoken() <-chan word {
	if w.waiter != nil {
		return w.waiter.words
	}
	return nil
}

func (w *watch) hear(next word, here bool) {
	switch {
	case !here:
		w.waiter.words = nil
	case next.Waiting:
		_ = sendMessage(w.wire, told{Waiting: true, Isolation: w.isolation})
	case next.Running:
		w.began()
	case next.Failed != "":
		w.failed = next.Failed
	}
}

// finish reports a service that has ended by itself.
func (w *watch) finish(status int) error {
	for next := range w.rest() {
		w.hear(next, true)
	}
	if w.failed != "" || w.service == nil {
		endAll()
		if w.failed == "" {
			w.failed = "what waits for orders ended before there were any"
		}
		return w.fail(errors.New(w.failed))
	}
	return w.report(&status, "")
}

// rest gives what the waiter said last.
func (w *watch) rest() <-chan word {
	if words := w.spoken(); words != nil {
		return words
	}
	nothing := make(chan word)
	close(nothing)
	return nothing
}

// end ends what runs. What was about to end by itself when it was to be killed has ended by itself.
func (w *watch) end(why string) error {
	current := w.ended()
	if current == nil {
		return w.report(nil, why)
	}
	endAll()
	select {
	case status := <-current:
		if why == "killed" && syscall.WaitStatus(status).Signal() != syscall.SIGKILL && w.service != nil {
			why = ""
		}
		return w.report(&status, why)
	case <-time.After(longestEnd):
		return w.report(nil, why)
	}
}

func seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }
