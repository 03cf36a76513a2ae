"""Actions and questions of operators: the command line, the console and its API call the same functions."""
