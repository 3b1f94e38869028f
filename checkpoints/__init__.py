"""Checkpoints: exact snapshots of missions, which can be verified, put back, forked and moved to another fleet.

`document` is the format, and pure. `storage` keeps it in files. `operations` capture, verify, restore and fork. The
format and what it contains: docs/checkpoints.md.
"""
