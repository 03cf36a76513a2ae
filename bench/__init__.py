"""Measurements: how fast, at what cost, how late; beside what else people use. `make bench` runs them."""
