"""The agent of one party: decides again over its own agreement, runs its parts of jobs, moves streams."""
