"""What runs inside an agent process: claim sorties, execute their attempts, renew their leases, settle their outcomes.

`runtime.Engine` is the entry point: `worker` starts it, and the Celery task in `missions/tasks.py` calls it.
`missions/operations` also uses the parts that settle, claim and insert, because it launches missions and serves
external agents; `missions/control` uses `settling`. Nothing here imports `missions/control`, `missions/operations` or
`missions/api`.
"""
