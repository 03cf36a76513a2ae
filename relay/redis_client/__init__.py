"""Connections to Redis by any URL: one server, Sentinel, Cluster, or an embedded server."""
