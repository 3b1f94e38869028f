"""The site as an ASGI application with everything loaded, for the servers that bench/servers.py compares."""

from fleet.web.__main__ import load

application = load()
