"""Workspaces: a copy of the mission's repository for each sortie, commits by the engine, merges one at a time.

- `repositories` runs git, in the repositories of users and in the fleet's mirrors of them.
- `copies` keeps the copies. `commits` turns what changed in a copy into a commit, or raises one of the `refusals`;
  `git_diffs` shows the changes, and `uncommitted` captures them while an attempt runs.
- `branches` merges changes onto branches of a mirror; `lanes` lets one sortie at a time do so.
- `reservations` and `reservation_index` keep sorties from changing the same files; `conflicts` records conflicts.
- For checkpoints, `moving` moves branches back, and `bundles` moves commits to another fleet.

`missions/engine`, `missions/operations` and `missions/control` use them, and so do checkpoints; nothing here imports
those. docs/workspaces.md explains the terms.
"""
