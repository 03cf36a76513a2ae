"""The admin port: health of a worker, and metrics of the fleet."""
