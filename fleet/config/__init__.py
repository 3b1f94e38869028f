"""What a process reads at its start: environment variables, the fleet's home, its credentials and its datastores.

`fleet.settings` is the only caller of most of it. Nothing here imports Django's models or connects to a server.
"""
