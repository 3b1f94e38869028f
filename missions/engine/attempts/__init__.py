"""One attempt, from its claim to its verdict.

`execution.execute` is the entry point. `preparation` makes the brief of the driver from the claim, the agent type and
the `context`; `scratch` has the folders, and `added_sorties` checks the sorties that the workload adds. `description`
describes the work to an external agent. The operations of external agents use `added_sorties`, `description`, and
`preparation` to mask secrets. This package does not import `missions.engine.process`.
"""
