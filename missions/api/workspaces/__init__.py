"""Workspaces over HTTP: diffs, conflicts, merges and reservations."""
