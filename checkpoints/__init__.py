"""Checkpoints: exact snapshots of missions that can be verified, restored, forked and moved to another fleet.

`document` is the format, free of Django and files. `storage` keeps the files. `operations` is what other packages may
call: capture, verify, restore, fork, export and import. `missions`, `agents` and `fleet` do not import this package.
docs/checkpoints.md describes the format.
"""
