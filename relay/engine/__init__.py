"""Everything that runs in a worker process, and the supervisor of several."""
