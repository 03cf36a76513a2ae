"""Benchmarks: throughput, cost and latency, compared with other queues. `make bench` runs them."""
