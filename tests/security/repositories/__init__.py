"""Attacks by workloads on git, and on the copies and repositories of others."""
