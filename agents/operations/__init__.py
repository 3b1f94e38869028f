"""Operations on nodes and agents. Every change of state is one guarded statement together with its event."""

from agents.operations.capacity import capacity
from agents.operations.lifecycle import NoLonger, draining, end, expire, heartbeat, reaped, register, spawned
from agents.operations.nodes import (
    agents_left_behind,
    beat,
    interrupted_agents,
    join,
    leave,
    pids_on_this_host,
    surviving_processes,
)
from agents.operations.nodes import expire as expire_nodes
from agents.operations.ordering import CHANNEL, NoPlace, cordon, free_place, order, spawn

__all__ = [
    "CHANNEL",
    "NoLonger",
    "NoPlace",
    "agents_left_behind",
    "beat",
    "capacity",
    "cordon",
    "draining",
    "end",
    "expire",
    "expire_nodes",
    "free_place",
    "heartbeat",
    "interrupted_agents",
    "join",
    "leave",
    "order",
    "pids_on_this_host",
    "reaped",
    "register",
    "spawn",
    "spawned",
    "surviving_processes",
]
