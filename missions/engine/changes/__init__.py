"""The change that an attempt makes to the mission's repository.

`workspace_attempt` prepares the copy of the repository and commits the work; `landing` merges, verifies and lands the
commit; `records` writes the rows. Only `missions.engine.attempts` calls this package. It works through
`missions/workspaces`, which has everything that needs no attempt.
This package does not import `missions.engine.attempts` or `missions.engine.process`.
"""
