"""The command line: arguments, text, tables and exit codes. No logic."""
