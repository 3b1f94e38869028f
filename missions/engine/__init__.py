"""The engine of an agent process: claim sorties, execute their attempts, renew their leases, settle their outcomes.

From the top down; each package imports only those below it:

- `process`: the engine as a process. It starts with the Celery worker, fills the slots and holds the leases.
- `attempts`: one attempt, from its claim to its verdict.
- `changes`: the change that an attempt makes to a repository: commit, merge, land.
- `output`: what a running attempt reports. `settlement`: outcomes and claims in the database. `outages`: waits for
  Postgres.

`missions/tasks.py` calls `process`. `missions/operations`, which launches missions and serves external agents, and
`missions/control` use the other packages. Nothing here imports `missions/control`, `missions/operations` or
`missions/api`.
"""
