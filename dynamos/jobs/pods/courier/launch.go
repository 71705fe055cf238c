package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// A node that has not got the courier's image yet fetches it while we wait; our pod has a deadline of its own.
	courierComes = 10 * time.Minute
	dialPause    = 2 * time.Millisecond
	longestPause = 20 * time.Millisecond
	cpuCheck     = 250 * time.Millisecond
	longestEnd   = 5 * time.Second
)

// keeper is the first process of a step's container. It starts one service, watches it, reports once, and ends.
type keeper struct {
	wire      *net.UnixConn
	waiter    *child
	service   *child
	isolation []string
	group     group
	running   time.Time
	log, said *kept
}

// launch keeps the step whose courier is, or soon will be, at the socket that words begin with; what follows is started at
// once, and waits for its orders.
func launch(words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("say where the courier's socket is")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	// The service has the same user: it shall not read or stop us.
	prctl(setDumpable, 0)
	prctl(setSubreaper, 1)
	limitOwn()
	k := &keeper{group: ownGroup()}
	cell, err := newCell()
	if err == nil {
		err = cell.do(func() error { return k.prepare(words[1:]) })
	}
	var unreached error
	if k.wire, unreached = dial(words[0], stop); unreached != nil {
		endAll()
		return unreached
	}
	if open := cell.do(sealAll); open != nil { // only to dial needed a socket
		return k.fail(open)
	}
	k.isolation = isolation(k.group)
	if err != nil {
		return k.fail(err)
	}
	return k.keep(stop)
}

// prepare starts what will wait for orders, where there is such a thing. It is sealed as the thread that starts it is.
func (k *keeper) prepare(waiter []string) (err error) {
	if k.log, err = keep(logBytes, true); err != nil {
		return err
	}
	if k.said, err = keep(errorBytes, false); err != nil {
		return err
	}
	if len(waiter) > 0 {
		k.waiter, err = startWaiter(waiter, k.log.write)
	}
	return err
}

func (k *keeper) keep(stop <-chan os.Signal) error {
	if k.waiter == nil {
		if err := sendMessage(k.wire, told{Waiting: true, Isolation: k.isolation}); err != nil {
			return err
		}
	}
	w := watch{keeper: k, orders: k.listen(), stop: stop}
	return w.untilItEnds()
}

// listen gives what the courier orders; it is closed when the courier is gone.
func (k *keeper) listen() <-chan arrived {
	orders := make(chan arrived)
	go func() {
		defer close(orders)
		for {
			var next order
			descriptors, err := receiveMessage(k.wire, &next)
			if err != nil {
				closeAll(descriptors)
				return
			}
			orders <- arrived{next, descriptors}
		}
	}()
	return orders
}

// begin starts the service, or tells the waiter to become it.
func (k *keeper) begin(next arrived) error {
	defer closeAll(next.descriptors)
	env := contract(next.order)
	if len(next.Argv) == 0 {
		if k.waiter == nil {
			return fmt.Errorf("%s has no program here", next.Service)
		}
		k.service = k.waiter
		k.service.limit(next.order)
		return k.service.hand(next.Service, env, append(next.descriptors, int(k.said.write.Fd())))
	}
	if k.waiter != nil {
		return fmt.Errorf("a container of Python services was told to run %s", next.Argv[0])
	}
	limitFiles(next.order)
	files := []uintptr{0, k.log.write.Fd(), k.log.write.Fd()}
	for _, descriptor := range next.descriptors {
		files = append(files, uintptr(descriptor))
	}
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer nothing.Close()
	files[0] = nothing.Fd()
	k.service, err = start(next.Argv, inherited(env), append(files, k.said.write.Fd()))
	if err == nil {
		k.service.limit(next.order)
		k.began()
	}
	return err
}

func (k *keeper) began() {
	k.running = time.Now()
	_ = sendMessage(k.wire, told{Running: true})
}

// report says how the service ended, and ends alike.
func (k *keeper) report(status *int, why string) error {
	ended := time.Now()
	if k.running.IsZero() {
		k.running = ended
	}
	endAll()
	if why == "" && status != nil && syscall.WaitStatus(*status).Signal() == syscall.SIGKILL && k.group.wasOutOfMemory() {
		why = "out-of-memory"
	}
	log, said := k.log.text(), k.said.text()
	used := usage()
	result := report{
		Status: status, Why: why, RunningAgo: time.Since(k.running).Seconds(), EndedAgo: time.Since(ended).Seconds(),
		CPU: used.cpu, Peak: used.peak, Isolation: k.isolation, Log: log, Error: said,
	}
	if err := sendMessage(k.wire, told{Ended: &result}); err != nil {
		return err
	}
	if status == nil {
		os.Exit(1)
	}
	if ended := syscall.WaitStatus(*status); ended.Signaled() {
		os.Exit(128 + int(ended.Signal()))
	}
	os.Exit(syscall.WaitStatus(*status).ExitStatus())
	return nil
}

// fail tells that there will be no service.
func (k *keeper) fail(cause error) error {
	endAll()
	log := ""
	if k.log != nil {
		log = k.log.text()
	}
	result := report{Why: "start-failed", Isolation: k.isolation, Log: log + cause.Error()}
	_ = sendMessage(k.wire, told{Ended: &result})
	return cause
}

// dial reaches the courier as soon as it is there: it may be started after us.
func dial(path string, stop <-chan os.Signal) (*net.UnixConn, error) {
	late := time.After(courierComes)
	for pause := dialPause; ; pause = min(2*pause, longestPause) {
		wire, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			return wire, nil
		}
		select {
		case <-stop:
			return nil, fmt.Errorf("told to end before the courier came")
		case <-late:
			return nil, fmt.Errorf("the courier did not come within %s: %w", courierComes, err)
		case <-time.After(pause):
		}
	}
}

// said by a waiter, one line of JSON each.
type word struct {
	Waiting bool   `json:"waiting"`
	Running bool   `json:"running"`
	Failed  string `json:"failed"`
}

func words(lines <-chan []byte) <-chan word {
	found := make(chan word)
	go func() {
		defer close(found)
		for line := range lines {
			var next word
			if json.Unmarshal(line, &next) == nil {
				found <- next
			}
		}
	}()
	return found
}
