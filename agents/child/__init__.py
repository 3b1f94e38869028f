"""The child process of the python driver. It runs one callable, without Django settings or credentials."""
