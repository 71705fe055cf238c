// Courier is what a job part's pod has besides its services.
//
// As "courier serve" it is the pod's first container: it listens to the agent, makes the pipes between the steps, carries
// the streams that enter and leave the pod, and tells how each step ended. As "courier ready" it is that container's hook:
// it holds the other containers back until there is something for them to start with. As "launch" it is the first process
// of every other container: it starts the service on its pipes, watches it, and ends with everything inside.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(filepath.Base(os.Args[0]), os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "courier: %v\n", err)
		os.Exit(1)
	}
}

func run(name string, words []string) error {
	if name == launchName {
		return launch(words)
	}
	if len(words) == 0 {
		return fmt.Errorf("say serve or ready")
	}
	switch words[0] {
	case "serve":
		return serve(settingsOf(os.Getenv))
	case "ready":
		return waitUntilReady(settingsOf(os.Getenv).folder)
	case launchName:
		return launch(words[1:])
	}
	return fmt.Errorf("there is no %q: say serve or ready", words[0])
}
