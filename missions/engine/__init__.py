"""What runs inside an agent process: claim sorties, execute their attempts, renew their leases, settle their outcomes.

`runtime.Engine` is the entry point, called by the Celery task in `missions/tasks.py`. `settle_and_claim` and `settling`
are also called by `missions/operations`, which settles for external agents. Nothing here imports `missions/control`,
`missions/operations` or `missions/api`.
"""
