"""The command line: words, tables and exit codes; no logic."""
