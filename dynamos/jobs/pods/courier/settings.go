package main

import (
	"path/filepath"
	"strings"
	"time"
)

const (
	launchName = "launch"
	readyName  = "ready"
	socketName = "socket"
)

// settings of a courier, as its container's environment gives them.
type settings struct {
	folder   string        // shared with the other containers: bin/launch, and steps/SLOT/socket for each of them
	pass     string        // the courier's certificate and key, and the certificate of the one agent that it answers
	listen   string        // where the agent reaches it
	pod      string        // what the agent calls the pod
	agent    string        // where the agent hears that the pod is up; none: it learns that from the cluster
	slots    []string      // the containers of steps
	patience time.Duration // for how long it waits for its agent to come
}

func settingsOf(get func(string) string) settings {
	found := settings{folder: "/dynamos", pass: "/pass", listen: ":7070", patience: time.Minute}
	if value := get("COURIER_FOLDER"); value != "" {
		found.folder = value
	}
	if value := get("COURIER_PASS"); value != "" {
		found.pass = value
	}
	if value := get("COURIER_LISTEN"); value != "" {
		found.listen = value
	}
	found.pod, found.agent = get("COURIER_POD"), get("COURIER_AGENT")
	if value, err := time.ParseDuration(get("COURIER_PATIENCE")); err == nil {
		found.patience = value
	}
	found.slots = strings.FieldsFunc(get("COURIER_SLOTS"), func(r rune) bool { return r == ',' })
	return found
}

func (s settings) step(slot string) string { return filepath.Join(s.folder, "steps", slot) }
