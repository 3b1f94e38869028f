"""The repositories that the fleet runs git in: those of users, on this host or on a server, and its mirrors of them.

- `git` runs git without any configuration but that of `git_environment`; `local_repositories` does so in repositories
  of users on this host, which workloads may be able to write to.
- `sources` finds the commit from which a mission starts, `mirrors` keeps the fleet's clones, and `targets` moves
  users' branches.

Nothing here imports the models or another part of the workspaces.
"""
