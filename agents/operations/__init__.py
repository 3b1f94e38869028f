"""Operations on nodes and agents. Every change of state is guarded, and is in one transaction with its event."""

from agents.operations.capacity import capacity
from agents.operations.lifecycle import (
    AgentEnded,
    create_agent,
    end,
    expire,
    heartbeat,
    mark_draining,
    mark_reaped,
    register,
)
from agents.operations.nodes import (
    agents_left_behind,
    interrupted_agents,
    join,
    leave,
    pids_of_nodes_on_this_host,
    pids_on_this_host,
    record_node_heartbeat,
    surviving_processes,
)
from agents.operations.nodes import expire as expire_nodes
from agents.operations.orders import CHANNEL, NoCapacity, cordon, free_ordinal, order, spawn

__all__ = [
    "CHANNEL",
    "AgentEnded",
    "NoCapacity",
    "agents_left_behind",
    "capacity",
    "cordon",
    "create_agent",
    "end",
    "expire",
    "expire_nodes",
    "free_ordinal",
    "heartbeat",
    "interrupted_agents",
    "join",
    "leave",
    "mark_draining",
    "mark_reaped",
    "order",
    "pids_of_nodes_on_this_host",
    "pids_on_this_host",
    "record_node_heartbeat",
    "register",
    "spawn",
    "surviving_processes",
]
