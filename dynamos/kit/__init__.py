"""Clocks, bounded waits, processes and errors: what every room may use."""
