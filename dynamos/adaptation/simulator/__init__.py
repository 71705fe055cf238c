"""The simulator: marketplaces of thousands of parties, planned by the planners of the running system. Pure."""
