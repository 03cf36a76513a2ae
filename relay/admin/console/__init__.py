"""The operator's console: pages, live updates and the HTTP API, as faces of `relay.operations`."""
