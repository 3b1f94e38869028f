"""Workspaces: a copy of the mission's repository for each sortie, commits by the engine, merges one at a time.

- `git` runs git without any configuration; `local_repositories` does so in repositories of users on this host.
- `repositories` keeps the mirrors, `copies` the copies. `commits` turns what changed in a copy into a commit,
  `git_diffs` shows it, `uncommitted` captures it while an attempt runs.
- `branches` merges changes onto branches of a mirror, `lanes` lets one sortie at a time do so, `targets` moves branches
  of users.
- `reservations` and `reservation_index` keep sorties from changing the same files; `conflicts` records conflicts.
- For checkpoints, `moving` moves branches back, and `bundles` moves commits to another fleet.

`missions/engine`, `missions/operations` and `missions/control` use them, and so do checkpoints; nothing here imports
those. docs/workspaces.md explains the terms.
"""
