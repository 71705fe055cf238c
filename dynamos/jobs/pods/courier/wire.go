package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"syscall"
)

const (
	mostBytes       = 64 << 20
	mostDescriptors = 250
)

// order is what a step is told to run, once. argv is empty for what a waiter finds by its service's name.
type order struct {
	Kill     string            `json:"kill,omitempty"`
	Service  string            `json:"service,omitempty"`
	Argv     []string          `json:"argv,omitempty"`
	Env      map[string]string `json:"env,omitempty"`
	Inputs   []string          `json:"inputs,omitempty"`
	Outputs  []string          `json:"outputs,omitempty"`
	CPU      float64           `json:"cpu,omitempty"`      // seconds
	Scratch  int64             `json:"scratch,omitempty"`  // bytes that one file may have
	Deadline float64           `json:"deadline,omitempty"` // seconds from now
}

// told is what a step says of itself: that it waits for work, that its service runs, and how it ended.
type told struct {
	Waiting   bool     `json:"waiting,omitempty"`
	Isolation []string `json:"isolation,omitempty"`
	Running   bool     `json:"running,omitempty"`
	Ended     *report  `json:"ended,omitempty"`
}

// report of a step. status is what wait(2) says; ages are in seconds before it is told, cpu is in seconds, peak in bytes.
type report struct {
	Status     *int     `json:"status"`
	Why        string   `json:"why"`
	RunningAgo float64  `json:"running_ago"`
	EndedAgo   float64  `json:"ended_ago"`
	CPU        float64  `json:"cpu"`
	Peak       int64    `json:"peak"`
	Isolation  []string `json:"isolation"`
	Log        string   `json:"log"`
	Error      string   `json:"error"`
}

// sendMessage writes one message, which may carry descriptors.
func sendMessage(wire *net.UnixConn, message any, descriptors ...int) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if len(descriptors) > 0 {
		rights = syscall.UnixRights(descriptors...)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if _, _, err := wire.WriteMsgUnix(head, rights, nil); err != nil {
		return err
	}
	_, err = wire.Write(body)
	return err
}

// receiveMessage reads one message and the descriptors that came with it.
func receiveMessage(wire *net.UnixConn, message any) ([]int, error) {
	head, rights := make([]byte, 4), make([]byte, syscall.CmsgSpace(4*mostDescriptors))
	n, space, _, _, err := wire.ReadMsgUnix(head, rights)
	if err != nil {
		return nil, err
	}
	descriptors, err := descriptorsIn(rights[:space])
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	if _, err := io.ReadFull(wire, head[n:]); err != nil {
		return descriptors, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > mostBytes {
		return descriptors, fmt.Errorf("a message of %d bytes is too long", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(wire, body); err != nil {
		return descriptors, err
	}
	return descriptors, json.Unmarshal(body, message)
}

func descriptorsIn(rights []byte) ([]int, error) {
	messages, err := syscall.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var found []int
	for i := range messages {
		part, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return found, err
		}
		for _, descriptor := range part {
			syscall.CloseOnExec(descriptor)
		}
		found = append(found, part...)
	}
	return found, nil
}

func closeAll(descriptors []int) {
	for _, descriptor := range descriptors {
		syscall.Close(descriptor)
	}
}
