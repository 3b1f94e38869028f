"""The table of actions: who may do what. The permission class, docs/access.md and the role matrix of the tests use it.

An action that is not in the table is denied to everyone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from fleet.access.models import Role

ADMIN, AGENT, USER = Role.ADMIN, Role.AGENT, Role.USER


class Scope(StrEnum):
    """The scopes of machine keys. `SCOPES` says what each allows."""

    READ = "read"
    LAUNCH = "launch"
    OPERATE = "operate"
    FLY = "fly"
    MANAGE = "manage"


SCOPES: Mapping[str, str] = MappingProxyType(
    {
        Scope.READ: "read what the user may see",
        Scope.LAUNCH: "launch and fork missions, create and change schedules",
        Scope.OPERATE: "pause, resume, cancel, retry and restore missions, merge their work",
        Scope.FLY: "run sorties as an external agent: register, claim, report",
        Scope.MANAGE: "manage agents, agent types, keys and sessions",
    }
)


class Visibility(StrEnum):
    """Which objects an action applies to. Others look exactly like missing ones (404). Admins see all objects."""

    ALL = "all"
    TEAMS = "teams"  # the caller's own missions and those of its teams; for an agent, those that it runs sorties for
    OWN = "own"  # the caller's own
    ATTEMPT = "attempt"  # the attempt that the lease token belongs to
    MISSION = "mission"  # the mission of that attempt


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One line of the table."""

    roles: frozenset[Role]
    scope: Scope | None  # None: machine keys need no particular scope
    visibility: Visibility
    description: str
    lease: Visibility | None  # for lease tokens; None: denied
    starts_code: bool  # requires plan.execute unless the plan is a template (missions/operations/permissions.py)


def _rule(
    description: str,
    *roles: Role,
    scope: Scope | None,
    visibility: Visibility = Visibility.ALL,
    lease: Visibility | None = None,
    starts_code: bool = False,
) -> AccessRule:
    return AccessRule(frozenset({ADMIN, *roles}), scope, visibility, description, lease, starts_code)


_READ = Scope.READ
_FLY = {"scope": Scope.FLY, "visibility": Visibility.ATTEMPT, "lease": Visibility.ATTEMPT}
_SEE = {"scope": Scope.READ, "visibility": Visibility.TEAMS, "lease": Visibility.MISSION}
_OWN_AGENT = {"scope": Scope.FLY, "visibility": Visibility.OWN}
_START = {"scope": Scope.OPERATE, "visibility": Visibility.OWN, "starts_code": True}

RULES: Mapping[str, AccessRule] = MappingProxyType(
    {
        "root.read": _rule("list the URLs of the API", USER, AGENT, scope=None),
        "me.read": _rule("see the caller and its permissions", USER, AGENT, scope=None),
        "tokens.revoke": _rule("end one session, or all of them", USER, AGENT, scope=Scope.MANAGE),
        "keys.list": _rule("list machine keys", USER, AGENT, scope=_READ, visibility=Visibility.OWN),
        "keys.create": _rule("create a machine key", USER, AGENT, scope=Scope.MANAGE, visibility=Visibility.OWN),
        "keys.revoke": _rule("revoke a machine key", USER, AGENT, scope=Scope.MANAGE, visibility=Visibility.OWN),
        "missions.list": _rule("list missions", USER, AGENT, scope=_READ, visibility=Visibility.TEAMS),
        "missions.read": _rule(
            "read a mission, its sorties, graph, events and progress", USER, AGENT, **_SEE  # type: ignore[arg-type]
        ),
        "missions.create": _rule("launch a mission", USER, scope=Scope.LAUNCH, starts_code=True),
        "missions.change": _rule("change a mission's priority or team", USER, scope=Scope.OPERATE, visibility=Visibility.OWN),
        "missions.cancel": _rule("cancel a mission", USER, scope=Scope.OPERATE, visibility=Visibility.OWN),
        "missions.pause": _rule("pause a mission", USER, scope=Scope.OPERATE, visibility=Visibility.OWN),
        "missions.resume": _rule("resume a mission", USER, **_START),  # type: ignore[arg-type]
        "missions.retry": _rule("retry the unsuccessful sorties of a mission", USER, **_START),  # type: ignore[arg-type]
        "missions.diff": _rule(
            "see what a mission or a sortie has changed in its repository", USER, scope=_READ, visibility=Visibility.TEAMS
        ),
        "missions.merge": _rule(
            "merge a mission's work into its repository", USER, scope=Scope.OPERATE, visibility=Visibility.OWN
        ),
        "missions.discard": _rule("discard a mission's work", USER, scope=Scope.OPERATE, visibility=Visibility.OWN),
        "missions.report": _rule("report the progress of a sortie", AGENT, **_FLY),  # type: ignore[arg-type]
        "checkpoints.list": _rule("list checkpoints", USER, scope=_READ, visibility=Visibility.TEAMS),
        "checkpoints.read": _rule(
            "read, compare and verify a checkpoint, and plan its restore", USER, scope=_READ, visibility=Visibility.TEAMS
        ),
        "checkpoints.create": _rule("capture a mission", USER, scope=Scope.OPERATE, visibility=Visibility.OWN),
        "checkpoints.change": _rule(
            "rename a checkpoint, or keep it", USER, scope=Scope.OPERATE, visibility=Visibility.OWN
        ),
        "checkpoints.restore": _rule("restore a mission, and resume it", USER, **_START),  # type: ignore[arg-type]
        "checkpoints.fork": _rule(
            "fork a mission", USER, scope=Scope.LAUNCH, visibility=Visibility.OWN, starts_code=True
        ),
        "checkpoints.delete": _rule("delete a checkpoint", USER, scope=Scope.OPERATE, visibility=Visibility.OWN),
        "schedules.list": _rule("list schedules", USER, scope=_READ, visibility=Visibility.TEAMS),
        "schedules.read": _rule("read a schedule and its ticks", USER, scope=_READ, visibility=Visibility.TEAMS),
        "schedules.preview": _rule("list the next times of a cron expression", USER, scope=_READ),
        "schedules.create": _rule("create a schedule", USER, scope=Scope.LAUNCH, starts_code=True),
        "schedules.change": _rule("change a schedule", USER, scope=Scope.LAUNCH, visibility=Visibility.OWN),
        "schedules.pause": _rule("pause a schedule", USER, scope=Scope.OPERATE, visibility=Visibility.OWN),
        "schedules.resume": _rule("resume a schedule", USER, **_START),  # type: ignore[arg-type]
        "schedules.run": _rule(
            "launch a schedule now", USER, scope=Scope.LAUNCH, visibility=Visibility.OWN, starts_code=True
        ),
        "schedules.delete": _rule("delete a schedule", USER, scope=Scope.OPERATE, visibility=Visibility.OWN),
        "templates.list": _rule("list templates", USER, AGENT, scope=_READ),
        "sorties.read": _rule(
            "read a sortie, its attempts, logs and artifacts", USER, AGENT, **_SEE  # type: ignore[arg-type]
        ),
        "sorties.cancel": _rule("cancel a sortie", USER, scope=Scope.OPERATE, visibility=Visibility.OWN),
        "sorties.retry": _rule("retry a sortie", USER, **_START),  # type: ignore[arg-type]
        "reservations.release": _rule(
            "release a reservation of a sortie", USER, scope=Scope.OPERATE, visibility=Visibility.OWN
        ),
        "sorties.resolve": _rule("resolve the conflict of a sortie", USER, **_START),  # type: ignore[arg-type]
        "sorties.claim": _rule("claim sorties for an external agent", AGENT, **_OWN_AGENT),  # type: ignore[arg-type]
        "sorties.fly": _rule("renew, report on, complete or fail an attempt", AGENT, **_FLY),  # type: ignore[arg-type]
        "agents.list": _rule("list agents", USER, AGENT, scope=_READ),
        "agents.read": _rule("read an agent, its health and its resource use", USER, AGENT, scope=_READ),
        "agents.logs": _rule("read the log of an agent's process", scope=_READ),
        "agents.spawn": _rule("start agents", scope=Scope.MANAGE),
        "agents.end": _rule("drain or terminate agents", scope=Scope.MANAGE),
        "agents.register": _rule("register an external agent", AGENT, scope=Scope.FLY),
        "agents.beat": _rule("send heartbeats of an external agent, or deregister it", AGENT, **_OWN_AGENT),  # type: ignore[arg-type]
        "agent-types.list": _rule("list agent types", USER, AGENT, scope=_READ),
        "agent-types.change": _rule("change an agent type", scope=Scope.MANAGE),
        "nodes.list": _rule("list nodes", scope=_READ),
        "events.list": _rule("read events", USER, scope=_READ, visibility=Visibility.TEAMS),
        "tickets.create": _rule("get a ticket for a live stream", USER, AGENT, scope=_READ),
        "audit.list": _rule("read the audit trail", scope=_READ),
    }
)  # fmt: skip
