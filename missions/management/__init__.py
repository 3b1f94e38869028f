"""The commands of missions and agents: entry points in `commands/`, the work of their actions in the other modules."""
