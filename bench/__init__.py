"""Measures the fleet against bare Celery, in one run and in turns: `make bench`. See docs/bench.md."""
