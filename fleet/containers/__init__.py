"""The entry point of the project's image: `python -m fleet.containers ROLE` (docs/containers.md).

`roles` says what each container needs and runs, `waiting` waits for that, and `health_check` is its health check. Some
engines ignore health when they start containers, so each container waits on its own.
"""
