"""The roles of the project's image: what each waits for, and which program it then becomes."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from fleet import errors
from fleet.containers.health_check import WEB_PORT
from fleet.containers.waiting import Need


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRole:
    name: str
    needs: tuple[Need, ...]
    argv: tuple[str, ...]


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


ROLES = {
    role.name: role
    for role in (
        ContainerRole(
            name="migrate",
            needs=("owner", "redis"),
            argv=_python("manage.py", "fleet_prepare", "--application-role"),
        ),
        ContainerRole(
            name="web",
            needs=("postgres", "redis", "migrations"),
            argv=_python("-m", "fleet.web", "--host", "0.0.0.0", "--port", str(WEB_PORT)),  # nosec B104
        ),
        ContainerRole(
            name="control",
            needs=("postgres", "redis", "migrations"),
            argv=_python("manage.py", "fleet_control"),
        ),
        ContainerRole(
            name="node",
            needs=("postgres", "redis", "migrations"),
            argv=_python("manage.py", "fleet_node"),
        ),
        ContainerRole(name="flower", needs=("redis",), argv=_python("-m", "fleet.flower")),
    )
}


def find(name: str) -> ContainerRole:
    """Return the role of this name; raises NotFound if there is none."""
    if name not in ROLES:
        raise errors.NotFound(f"The image has no role {name!r}.", hint=f"The roles are: {', '.join(ROLES)}.")
    return ROLES[name]
