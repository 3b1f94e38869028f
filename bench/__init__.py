"""Benchmarks: `make bench` runs all of them (`__main__`) and compares them with `baseline.json`. See docs/bench.md.

- `workloads`: the fleet compared with bare Celery, in alternating rounds.
- `web`: the API, also with other web servers.
- `checkpoints`: capture and restore, also compared with langgraph-checkpoint-postgres.
- `repositories`: workspaces and reservations.
- `operation`: starting and stopping a whole fleet, and running the sample mission.

`installation` provides the servers and the Django project for the measurements. The product does not import this
package; `scripts/readiness.py` reads its results.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the checkout
