"""What happens to nodes and agents. Every change of state is one guarded statement with its event."""

from agents.operations.lifecycle import draining, end, expire, heartbeat, register, spawned
from agents.operations.nodes import beat, join, leave

__all__ = ["beat", "draining", "end", "expire", "heartbeat", "join", "leave", "register", "spawned"]
