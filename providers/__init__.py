"""The built-in adapters, one a file. Pure: message to request, response to outcome."""
