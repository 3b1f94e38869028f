"""The endpoints for monitoring: `/metrics` for Prometheus, `/healthz` and `/readyz` for probes.

Apps register their metrics and readiness checks here when Django starts.
"""
