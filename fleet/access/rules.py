"""Who may do what: one table, from which the permission class, docs/access.md and the tests' matrix are made.

What is not in the table is allowed to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from fleet.access.models import Role

ADMIN, AGENT, USER = Role.ADMIN, Role.AGENT, Role.USER


class Scope(StrEnum):
    """What a machine key may be narrowed to."""

    READ = "read"  # look
    LAUNCH = "launch"  # launch missions
    OPERATE = "operate"  # cancel, pause, resume, retry
    FLY = "fly"  # what agents do: claim, keep and settle sorties
    MANAGE = "manage"  # agents, keys and users


class Reach(StrEnum):
    """Which of the things an action is about; of others the answer is that there are none. Admins reach all."""

    ALL = "all"
    SEEN = "seen"  # one's own missions and one's teams'; of an agent, those that it flies for
    OWN = "own"  # one's own
    HELD = "held"  # the attempt whose lease token is shown
    FLOWN = "flown"  # the mission of that attempt


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table."""

    roles: frozenset[Role]
    scope: Scope | None  # None: no key is narrowed so far that it may not
    reach: Reach
    says: str
    lease: Reach | None  # what of it the work of an attempt may, which shows its lease token; None: nothing
    starts: bool  # makes code start, and so asks for plan.execute where the plan is no template (missions/operations/rights.py)


def _rule(
    says: str,
    *roles: Role,
    scope: Scope | None,
    reach: Reach = Reach.ALL,
    lease: Reach | None = None,
    starts: bool = False,
) -> Rule:
    return Rule(frozenset({ADMIN, *roles}), scope, reach, says, lease, starts)


_READ = Scope.READ
_FLY = {"scope": Scope.FLY, "reach": Reach.HELD, "lease": Reach.HELD}
_SEE = {"scope": Scope.READ, "reach": Reach.SEEN, "lease": Reach.FLOWN}
_START = {"scope": Scope.OPERATE, "reach": Reach.OWN, "starts": True}

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "root.read": _rule("see where things are", USER, AGENT, scope=None),
        "me.read": _rule("see who one is and what one may", USER, AGENT, scope=None),
        "tokens.revoke": _rule("sign out, here or everywhere", USER, AGENT, scope=Scope.MANAGE),
        "keys.list": _rule("see one's machine keys", USER, AGENT, scope=_READ, reach=Reach.OWN),
        "keys.create": _rule("make a machine key for oneself", USER, AGENT, scope=Scope.MANAGE, reach=Reach.OWN),
        "keys.revoke": _rule("revoke one's machine key", USER, AGENT, scope=Scope.MANAGE, reach=Reach.OWN),
        "missions.list": _rule("list missions", USER, AGENT, scope=_READ, reach=Reach.SEEN),
        "missions.read": _rule(
            "see a mission, its sorties, graph, events, progress", USER, AGENT, **_SEE  # type: ignore[arg-type]
        ),
        "missions.create": _rule("launch a mission", USER, scope=Scope.LAUNCH, starts=True),
        "missions.change": _rule("change a mission's priority or team", USER, scope=Scope.OPERATE, reach=Reach.OWN),
        "missions.cancel": _rule("cancel a mission", USER, scope=Scope.OPERATE, reach=Reach.OWN),
        "missions.pause": _rule("pause a mission", USER, scope=Scope.OPERATE, reach=Reach.OWN),
        "missions.resume": _rule("resume a mission", USER, **_START),  # type: ignore[arg-type]
        "missions.retry": _rule("retry what ended badly in a mission", USER, **_START),  # type: ignore[arg-type]
        "missions.report": _rule("report progress of a sortie to its mission", AGENT, **_FLY),  # type: ignore[arg-type]
        "templates.list": _rule("see which missions operators offer", USER, AGENT, scope=_READ),
        "sorties.read": _rule(
            "see a sortie, its attempts, logs and artifacts", USER, AGENT, **_SEE  # type: ignore[arg-type]
        ),
        "sorties.cancel": _rule("cancel a sortie", USER, scope=Scope.OPERATE, reach=Reach.OWN),
        "sorties.retry": _rule("retry a sortie", USER, **_START),  # type: ignore[arg-type]
        "sorties.claim": _rule("take sorties for an agent that one registered", AGENT, scope=Scope.FLY, reach=Reach.OWN),
        "sorties.fly": _rule("keep, report on, complete or fail an attempt", AGENT, **_FLY),  # type: ignore[arg-type]
        "agents.list": _rule("list agents", USER, AGENT, scope=_READ),
        "agents.read": _rule("see an agent, its health and what it uses", USER, AGENT, scope=_READ),
        "agents.logs": _rule("read what an agent's process prints", scope=_READ),
        "agents.spawn": _rule("start agents", scope=Scope.MANAGE),
        "agents.end": _rule("drain or terminate agents", scope=Scope.MANAGE),
        "agents.register": _rule("register an agent from outside", AGENT, scope=Scope.FLY),
        "agents.beat": _rule("keep an agent that one registered alive, or end it", AGENT, scope=Scope.FLY, reach=Reach.OWN),
        "agent-types.list": _rule("see the agent types", USER, AGENT, scope=_READ),
        "agent-types.change": _rule("change an agent type", scope=Scope.MANAGE),
        "nodes.list": _rule("see the nodes", scope=_READ),
        "events.list": _rule("read events", USER, scope=_READ, reach=Reach.SEEN),
        "tickets.create": _rule("get a ticket with which a browser opens a live stream", USER, AGENT, scope=_READ),
        "audit.list": _rule("read the audit trail", scope=_READ),
    }
)  # fmt: skip
SCOPES = frozenset(scope.value for scope in Scope)
