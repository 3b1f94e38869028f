"""The operations on missions and sorties: one implementation for the commands, the admin and the API.

Nothing here imports `api`, `admin`, `control` or `management`.
"""

from missions.operations import external_agents
from missions.operations.cancelling import cancel, cancel_sortie
from missions.operations.changing import prioritise, share
from missions.operations.launching import launch, plan_for_task
from missions.operations.pausing import pause, resume
from missions.operations.retrying import retry, retry_sortie

__all__ = [
    "cancel",
    "cancel_sortie",
    "external_agents",
    "launch",
    "pause",
    "plan_for_task",
    "prioritise",
    "resume",
    "retry",
    "retry_sortie",
    "share",
]
