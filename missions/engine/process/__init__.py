"""The engine as a process: a Celery worker that claims sorties and executes them in its slots.

`worker` starts and stops the engine with the Celery worker. `runtime` has the engine: slots, leases, heartbeat.
`committer` settles and claims for all slots. `task_summary` and `remote_control` are what Flower sees.
Only `missions/tasks.py` calls this package. No other part of the engine imports it.
"""
