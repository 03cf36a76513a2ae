"""Conversion of YAML text to typed settings, or to a list of problems with line and column."""
