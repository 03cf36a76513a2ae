"""From YAML text to typed settings, or to every problem with its line and column."""
