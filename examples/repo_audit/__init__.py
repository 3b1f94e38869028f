"""The sample mission: audit a git repository and say what to fix first.

`audit.yaml` is the plan. Most modules contain the work of one or two of its sorties, as registered callables. `git` and
`tree` read the repository, `findings` defines the results of the sorties, `ranking` orders them, and `report` renders
them. Nothing here writes into the audited repository, runs its code, uses its configuration or needs the network.
"""
