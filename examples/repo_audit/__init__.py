"""The sample mission: audit a git repository and say what to fix first.

`audit.yaml` is the plan. Each module here holds the work of one or two of its sorties, as registered callables;
`git` and `tree` read the repository, `findings` is the form in which sorties hand on what they found, `ranking` puts
it in order, `report` renders it. Nothing here writes into the audited repository, runs its code, obeys its
configuration or uses the network.
"""
