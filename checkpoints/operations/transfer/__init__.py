"""Move missions to another fleet: `exporting` writes one file, `importing` creates a new mission from it.

Nothing in an imported file is trusted: `checking` checks its lines, `workspaces` its commits, and `spooling` holds its
artifacts until everything has been checked. `checkpoints.document.archive` defines the format of the file.
"""
