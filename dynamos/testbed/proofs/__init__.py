"""Proofs: what a testbed's networks keep apart, and what can be read on its links, by trying."""
