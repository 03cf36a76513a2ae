"""What tests start and look at: real servers on free loopback ports."""
