"""Workspaces: a copy of the mission's repository for each sortie, commits by the engine, merges one at a time.

`git` runs git without any configuration; `repositories` keeps the mirrors, `copies` the copies, `commits` turns what
changed in a copy into a commit, `merging` moves branches, `lanes` lets one sortie at a time do so, `reservations` keeps
sorties from changing the same files, `conflicts` records conflicts between changes, `bundles` moves commits to another
fleet. `missions/engine`, `missions/operations` and `missions/control` use them, and so do checkpoints; nothing here
imports those. docs/workspaces.md explains the terms.
"""
