"""What a worker tells machines about itself and the fleet: health and metrics."""
