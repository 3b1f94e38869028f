"""What happens to nodes and agents. Every change of state is one guarded statement with its event."""

from agents.operations.capacity import capacity
from agents.operations.lifecycle import NoLonger, draining, end, expire, heartbeat, reaped, register, spawned
from agents.operations.nodes import beat, here, interrupted, join, leave, left_behind, surviving_processes
from agents.operations.nodes import expire as expire_nodes
from agents.operations.ordering import CHANNEL, NoPlace, cordon, free_place, order, spawn

__all__ = [
    "CHANNEL",
    "NoLonger",
    "NoPlace",
    "beat",
    "capacity",
    "cordon",
    "draining",
    "end",
    "expire",
    "expire_nodes",
    "free_place",
    "heartbeat",
    "here",
    "interrupted",
    "join",
    "leave",
    "left_behind",
    "order",
    "reaped",
    "register",
    "spawn",
    "spawned",
    "surviving_processes",
]
