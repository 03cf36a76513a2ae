"""Helpers for tests: real servers on free loopback ports, builders and fakes."""
