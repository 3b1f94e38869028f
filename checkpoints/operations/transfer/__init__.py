"""Missions move to another fleet: `exporting` writes one file, `importing` makes a new mission from it.

Nothing in an imported file is trusted: `checking` checks its lines, `spooling` keeps its artifacts aside until
everything has been checked. `checkpoints.document.archive` has the format of the file.
"""
