"""Benchmarks: `make bench` runs all of them (`__main__`) and compares them with `baseline.json`. See docs/bench.md.

- `workloads`: the fleet beside bare Celery, in alternating rounds.
- `web`: the API, beside other web servers too.
- `checkpoints`: capture and restore, beside langgraph-checkpoint-postgres too.
- `repositories`: workspaces and reservations.
- `operation`: a whole fleet that starts, runs the sample mission and stops.

`installation` has the servers and the Django project that the measurements run on. The product does not import this
package; `scripts/readiness.py` reads what it has measured.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the checkout
