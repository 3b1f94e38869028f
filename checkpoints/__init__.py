"""Checkpoints: exact snapshots of missions that can be verified, restored, forked and moved to another fleet.

From the top down; each package imports only those below it:

- `admin`, `api`, `management`: the interfaces. `policy` captures missions automatically; `backups` adds checkpoints to
  backups of the fleet.
- `queries`: what the interfaces show, and who may see it.
- `operations`: capture, verify, restore, fork, export, import. Other packages call these.
- `rows`: missions as rows of the database. `files`: checkpoints as files. `recovery`: what a restore would do.
- `document`: the format, free of Django and files. docs/checkpoints.md describes it.

`missions`, `agents` and `fleet` do not import this package.
"""
