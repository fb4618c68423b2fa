"""The command line: everything that the API can, for people and for scripts."""
