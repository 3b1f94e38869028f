"""The work of agents: drivers, sandboxes, workspaces, and checks of what attempts did."""
