"""The web server: its processes, its connections, and the ASGI and Django middleware of every request."""
