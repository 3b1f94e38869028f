"""The site as an ASGI application with everything loaded, for the servers that bench/web/servers.py compares."""

from fleet.web.__main__ import load

application = load()
