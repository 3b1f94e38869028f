"""Benchmarks the fleet against bare Celery in alternating rounds: `make bench`. See docs/bench.md."""
