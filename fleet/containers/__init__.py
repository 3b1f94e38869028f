"""The entry point of the project's image: `python -m fleet.containers ROLE` (docs/containers.md).

`roles` says what each container needs and runs, `waiting` waits for that, and `healthy.py` is its health check. Not
every engine starts containers in the order of their health, so each container waits by itself.
"""
