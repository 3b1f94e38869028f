"""What confines the workload of an attempt: a sandbox, a seccomp filter, a cgroup and a quota.

- `view`: what an attempt sees of the host and may change. `host_paths`: the host's folders, and which are refused.
- `bubblewrap`: the command line that gives a program such a view. `probe`: whether this host allows a sandbox.
- `seccomp`: the filter of system calls. `devices`: keeps the host's device nodes unchanged.
- `links`: symbolic links that a workload may have put into a path.
- `attempt_limits`: the limits of an attempt. `cgroups` has the kernel enforce them; `quota` polls the others.

Drivers confine attempts, and workspaces confine git, so nothing here imports `agents/drivers` or Django. All modules
may be used from outside. The rules: docs/security.md.
"""
