"""The child process of the python driver: no Django settings, no credentials, nothing but the callable."""
