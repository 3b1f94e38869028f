"""The supervisor: starts services in order, watches them, restarts them and stops them.

`supervisor.Supervisor` is the entry point; other processes reach a running one through `control_socket`. It works
without a database: Postgres may be what it has to start.
"""
