package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const firstStream = 3

// contract gives the environment of a service: what the order says, and which descriptor is which stream.
func contract(next order) map[string]string {
	found := map[string]string{}
	for name, value := range next.Env {
		found[name] = value
	}
	place := firstStream
	pairs := func(names []string) string {
		var list []string
		for _, name := range names {
			list = append(list, fmt.Sprintf("%s=%d", name, place))
			place++
		}
		return strings.Join(list, ",")
	}
	found["DYNAMOS_INPUTS"] = pairs(next.Inputs)
	found["DYNAMOS_OUTPUTS"] = pairs(next.Outputs)
	found["DYNAMOS_ERROR"] = strconv.Itoa(place)
	return found
}

// inherited gives the image's own environment with that of the contract, without what the cluster tells every container.
func inherited(env map[string]string) []string {
	var found []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		_, ours := env[name]
		if !ours && name != "HOSTNAME" && !strings.HasPrefix(name, "KUBERNETES_") {
			found = append(found, pair)
		}
	}
	for name, value := range env {
		found = append(found, name+"="+value)
	}
	return found
}
