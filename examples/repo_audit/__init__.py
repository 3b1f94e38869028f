"""The sample mission: audit a git repository and say what to fix first.

`audit.yaml` is the plan, and `callables` registers the work of its sorties. `checks` and `reporting` contain that work;
they use `repository`, which reads the repository, and `results`, which defines and ranks findings. Nothing here writes
into the audited repository, runs its code, uses its configuration or needs the network.
"""
