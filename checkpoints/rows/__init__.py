"""Missions as rows of the database, and the lines of JSON in which a checkpoint has them.

`reading` turns the rows into lines (`CurrentMission`), and `writing` turns lines into rows. `workspaces` does both for
the workspace of a mission, and keeps the commits that a checkpoint needs.
Only `checkpoints.operations` calls this package. Nothing here decides what to capture or restore.
"""
