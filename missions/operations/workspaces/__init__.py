"""Operations on a mission's work in its repository: show diffs, resolve conflicts, merge it, discard it.

One implementation for the commands, the admin and the API. `preparing` checks and creates the workspace of a mission at
its launch, for `missions/operations/launching.py`. `unmerged` says what would be lost; retention uses it too.
`bundling` gives external agents the branch. `tidying` removes copies and mirrors that nothing uses any more.
"""
