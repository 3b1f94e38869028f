"""Insert sorties: those of a plan at its launch, or those that a running sortie adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from django.conf import settings

from fleet import ids, values
from fleet.postgres import statements
from fleet.postgres.hot_path import Cursor
from missions import hints
from missions.plan import SortieSpec, globs
from missions.states import ended_badly

_SORTIE_COLUMNS = (
    "id", "mission_id", "key", "agent_type_id", "state", "priority", "turn", "gated", "always", "allow_failure",
    "remaining", "attempt", "tries", "max_tries", "rescues", "cancel_requested", "concurrency_key", "waits_for", "wake_at",
    "ready_at", "added_by_id",
)  # fmt: skip


class Upstream(NamedTuple):
    """A sortie that other sorties of the mission may need."""

    id: UUID
    state: str
    tolerated: bool = False  # its `allow_failure`

    def satisfies_need(self, *, always: bool) -> bool:
        """Whether a dependent no longer waits for it. `always`: the dependent runs `if: always`."""
        ended_well = self.state == "succeeded" or (self.state == "failed" and self.tolerated)
        return ended_well or (always and self.ended_badly)

    @property
    def ended_badly(self) -> bool:
        return ended_badly(state=self.state, tolerated=self.tolerated)


class Overflow(ValueError):
    """A mission would have more sorties than FLEET_MAX_SORTIES."""


def insert(
    cursor: Cursor,
    *,
    mission: UUID,
    state: str,
    specs: Sequence[SortieSpec],
    turn: int,
    added_by: UUID | None = None,
    existing: Mapping[str, Upstream] | None = None,
    queued_sorties: dict[str, list[UUID]] | None = None,
) -> Counter[str]:
    """Insert sorties with their briefs, needs and events; returns how many became queued, by type.

    `state` is the mission's. `turn` is the first sortie's place in the fair order. `added_by` is the sortie that adds
    them at run time. `existing` maps keys to the sorties that the mission already has. The ids of the first queued
    sorties are added to `queued_sorties`, by type.
    """
    cursor.execute(
        "SELECT clock_timestamp(), EXISTS (SELECT FROM missions_mission WHERE id = %(mission)s AND max_running > 0)",
        {"mission": mission},
    )
    now, mission_is_limited = cursor.fetchone() or (None, False)
    cursor.execute("SELECT name FROM agents_agenttype WHERE max_running > 0")
    limited_types = {name for (name,) in cursor.fetchall()}
    upstreams = dict(existing or {})
    upstreams.update((spec.key, Upstream(ids.new(), "pending")) for spec in specs)
    queued: Counter[str] = Counter()
    inserted: list[UUID] = []
    with cursor.copy(f"COPY missions_sortie ({', '.join(_SORTIE_COLUMNS)}) FROM STDIN") as copy:
        for place, spec in enumerate(specs):
            sortie = upstreams[spec.key].id
            inserted.append(sortie)
            gated = (
                mission_is_limited
                or spec.concurrency is not None
                or spec.run_at is not None
                or spec.agent_type in limited_types
                or bool(spec.touches or spec.reads)
            )
            remaining = sum(not upstreams[need].satisfies_need(always=spec.always) for need in spec.needs)
            if remaining:
                sortie_state = "pending"
            elif gated or state != "running":
                sortie_state = "ready"
            else:
                sortie_state = "queued"
                queued[spec.agent_type] += 1
                if queued_sorties is not None and queued[spec.agent_type] <= hints.MAX_AT_ONCE:
                    queued_sorties.setdefault(spec.agent_type, []).append(sortie)
            row = {
                "id": sortie,
                "mission_id": mission,
                "key": spec.key,
                "agent_type_id": spec.agent_type,
                "state": sortie_state,
                "priority": spec.priority,
                "turn": turn + place,
                "gated": gated,
                "always": spec.always,
                "allow_failure": spec.allow_failure,
                "remaining": remaining,
                "attempt": 0,
                "tries": 0,
                "max_tries": spec.retry.max_attempts,
                "rescues": 0,
                "cancel_requested": False,
                "concurrency_key": spec.concurrency.key if spec.concurrency else None,
                "waits_for": "",
                "wake_at": spec.run_at,
                "ready_at": None if remaining else now,
                "added_by_id": added_by,
            }
            copy.write_row([row[column] for column in _SORTIE_COLUMNS])
    with cursor.copy("COPY missions_brief (sortie_id, spec, alert_silence_s) FROM STDIN") as copy:
        for spec in specs:
            copy.write_row((upstreams[spec.key].id, values.encode(spec.as_json()), spec.alert_silence_s))
    with cursor.copy("COPY missions_need (sortie_id, upstream_id, name) FROM STDIN") as copy:
        for spec in specs:
            for need in spec.needs:
                copy.write_row((upstreams[spec.key].id, upstreams[need].id, need.partition("[")[0]))
    reserve(cursor, mission=mission, specs=specs, sorties={key: upstream.id for key, upstream in upstreams.items()})
    cursor.execute(
        "INSERT INTO fleet_event (kind, scope, subject, data)"
        " SELECT 'sortie.' || state, mission_id, id, '{}' FROM missions_sortie WHERE id = ANY (%(inserted)s) ORDER BY turn",
        {"inserted": inserted},
    )
    limits = {spec.concurrency.key: spec.concurrency.limit for spec in specs if spec.concurrency}
    _set_limits(cursor, limits=limits, new=inserted)
    return queued


def apply_limits(cursor: Cursor, *, mission: UUID) -> None:
    """Apply the limits of the keys of a mission's unfinished sorties, after some were reopened or restored."""
    cursor.execute(statements.read("missions.engine.settlement", "claimed_limits"), {"mission": mission})
    _set_limits(cursor, limits=dict(cursor.fetchall()))


def _set_limits(cursor: Cursor, *, limits: Mapping[str, int], new: Sequence[UUID] | None = None) -> None:
    """Set the limits of concurrency keys, so that no unfinished sortie runs under a higher limit than its plan has.

    The limit of an existing key is lowered. It is raised only for `new` sorties, if no others with the key are
    unfinished.
    """
    for key, limit in sorted(limits.items()):
        parameters = {"key": key, "limit": limit, "new": new}
        cursor.execute(
            'INSERT INTO missions_concurrencykey (key, "limit") VALUES (%(key)s, %(limit)s)'
            " ON CONFLICT (key) DO NOTHING",
            parameters,
        )
        if cursor.rowcount:
            continue
        # Locked in a separate statement, so that the next one sees the sorties of the transaction that held the lock.
        cursor.execute("SELECT FROM missions_concurrencykey WHERE key = %(key)s FOR UPDATE", parameters)
        cursor.execute(statements.read("missions.engine.settlement", "set_limit"), parameters)


def reserve(cursor: Cursor, *, mission: UUID, specs: Sequence[SortieSpec], sorties: Mapping[str, UUID]) -> None:
    """Insert the reservations that the plan requests (`touches` and `reads`); admission puts them into force."""
    if not any(spec.touches or spec.reads for spec in specs):
        return
    cursor.execute(
        "SELECT repository, branch FROM missions_workspace WHERE mission_id = %(mission)s", {"mission": mission}
    )
    if (workspace := cursor.fetchone()) is None:
        return
    with cursor.copy(
        "COPY missions_reservation (id, sortie_id, repository, branch, pattern, folder, shared) FROM STDIN"
    ) as copy:
        for spec in specs:
            for shared, patterns in ((False, spec.touches), (True, spec.reads)):
                for pattern in dict.fromkeys(patterns):
                    copy.write_row(
                        (ids.new(), sorties[spec.key], *workspace, pattern, globs.parse(pattern).folder_key, shared)
                    )


def add(cursor: Cursor, *, parent: UUID, attempt: int, specs: Sequence[SortieSpec]) -> tuple[Counter[str], list[UUID]]:
    """Insert the sorties that a running attempt adds, as part of its outcome.

    Does nothing if the attempt is no longer the running one, or if the mission is being cancelled.

    Returns how many became queued, by type, and those needs of the new sorties that have already ended badly.
    Raises Overflow if the mission would have too many sorties.
    """
    cursor.execute(
        "SELECT m.id, m.state, s.turn FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id"
        " WHERE s.id = %(parent)s AND s.attempt = %(attempt)s AND s.state = 'running' FOR NO KEY UPDATE OF s FOR SHARE OF m",
        {"parent": parent, "attempt": attempt},
    )
    row = cursor.fetchone()
    if row is None or row[1] == "cancelling":
        return Counter(), []
    mission, state, turn = row
    cursor.execute(
        "SELECT key, id, state, allow_failure FROM missions_sortie WHERE mission_id = %(mission)s", {"mission": mission}
    )
    existing = {key: Upstream(*upstream) for key, *upstream in cursor.fetchall()}
    if len(existing) + len(specs) > settings.FLEET_MAX_SORTIES:
        raise Overflow(
            f"the mission would have {len(existing) + len(specs)} sorties; the limit is {settings.FLEET_MAX_SORTIES}"
            " (FLEET_MAX_SORTIES)"
        )
    queued = insert(
        cursor, mission=mission, state=state, specs=specs, turn=turn + 1, added_by=parent, existing=existing
    )
    bad = [
        existing[need].id
        for spec in specs
        for need in spec.needs
        if not spec.always and need in existing and existing[need].ended_badly
    ]
    _add_dependents(cursor, mission=mission, specs=specs)
    return queued, bad


def _add_dependents(cursor: Cursor, *, mission: UUID, specs: Sequence[SortieSpec]) -> None:
    """Make sorties that have not started need the new ones (`before:` in an added sortie)."""
    edges = [(spec.key, name) for spec in specs for name in spec.before]
    if not edges:
        return
    cursor.execute(
        statements.read("missions.engine.settlement", "insert_before"),
        {"mission": mission, "new": [new for new, _ in edges], "later": [later for _, later in edges]},
    )
    unchanged = [name for (name,) in cursor.fetchall()]
    if unchanged:
        raise ValueError(f"`before` names {', '.join(unchanged)}, which has already started or is not in the mission")
