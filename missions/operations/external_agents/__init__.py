"""External agents: agents that no node started. From anywhere, they register, claim, renew leases and settle over HTTP.

A claim returns a *lease token* (missions/attempt_tokens.py). Its holder may renew the attempt's lease, report on it and
end it. Once the lease is lost or the attempt has ended, every call with the token is a Conflict.

A workload that the fleet's own agents start has a token too. With it the workload may report, and ask whether it has
been cancelled. Its agent renews the lease and settles the outcome when the workload exits.
"""

from missions.operations.external_agents.claiming import MAX_CLAIM, Heartbeat, Lease, claim, heartbeat, renew_lease
from missions.operations.external_agents.ending import complete, fail, give_back
from missions.operations.external_agents.membership import leave, owned_agent, register
from missions.operations.external_agents.reporting import UNCHANGED, progress

__all__ = [
    "MAX_CLAIM",
    "UNCHANGED",
    "Heartbeat",
    "Lease",
    "claim",
    "complete",
    "fail",
    "give_back",
    "heartbeat",
    "leave",
    "owned_agent",
    "progress",
    "register",
    "renew_lease",
]
