"""The supervisor: starts services in order, watches them, restarts them and stops them.

`supervisor.Supervisor` is the entry point, and one `runner.ServiceRunner` looks after each `service.Service`. Other
processes reach a running supervisor through `control_socket`. Nothing here uses the database, because the supervisor
starts Postgres.
"""
