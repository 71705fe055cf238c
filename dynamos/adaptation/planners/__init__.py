"""Planners: one file each. `registry` knows them by name."""
