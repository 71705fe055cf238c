package main

import (
	"net"
	"time"
)

const (
	hailPause   = 20 * time.Millisecond
	longestHail = time.Second
)

// hail tells the agent that this pod's courier is up until it comes: from the cluster it would hear of it much later.
func (c *courier) hail() {
	if c.agent == "" {
		return
	}
	agent, err := net.ResolveUDPAddr("udp", c.agent)
	if err != nil {
		return
	}
	own, err := net.ResolveTCPAddr("tcp", c.listen)
	if err != nil {
		return
	}
	connection, err := net.DialUDP("udp", &net.UDPAddr{IP: own.IP, Zone: own.Zone}, agent)
	if err != nil {
		return
	}
	defer connection.Close()
	for pause := hailPause; !c.found(); pause = min(2*pause, longestHail) {
		_, _ = connection.Write([]byte(c.pod))
		time.Sleep(pause)
	}
}

// found tells whether the agent has come.
func (c *courier) found() bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.control != nil
}
