"""The HTTP server: what a client of the registry sees."""
