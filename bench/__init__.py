"""Measurements: how fast, at what cost, how late. `make bench` prints a table and writes JSON."""
