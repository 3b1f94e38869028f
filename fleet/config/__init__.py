"""The configuration of a process: environment variables, the fleet's home, its credentials, ports and datastores.

Mostly called by `fleet.settings`. Nothing here imports Django's models or connects to a server.
"""
