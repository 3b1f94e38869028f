"""The endpoints for monitoring: `/metrics` for Prometheus, `/healthz` and `/readyz` for probes.

Apps register their metrics and readiness checks in their `registrations.py`, which is loaded at the first request.
"""
