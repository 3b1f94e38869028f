"""The attempt whose lease token is shown (missions/attempt_tokens.py), for what its work or its agent has to say of it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from fleet import errors
from missions import attempt_tokens
from missions.attempt_tokens import StaleLease
from missions.claims import Claim
from missions.models import Attempt
from missions.plan import SortieSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedAttempt:
    """An attempt whose token was shown."""

    claim: Claim
    spec: SortieSpec
    agent: UUID
    ours: bool  # flown by an agent of the fleet
    repeated_state: str | None = None  # the sortie's state, where this very outcome was accepted before


def parse(token: str) -> tuple[UUID, int] | None:
    """The sortie and the number that a text names, where it looks like a token."""
    try:
        return attempt_tokens.attempt(token)
    except errors.Invalid:
        return None


def authenticate_to_end(token: str, outcome: str | None = None) -> AuthenticatedAttempt:
    """The attempt that a token is to end; Conflict where that is not for its work to say."""
    found = authenticate(token, ended_as=outcome)
    if found.ours:
        raise errors.Conflict(
            f"{found.claim.key} is flown by an agent of the fleet, which ends it when its process ends.",
            hint="Write the result to FLEET_RESULT and exit with 0, or with another code where it has failed.",
        )
    return found


def authenticate(token: str, *, ended_as: str | None = None) -> AuthenticatedAttempt:
    """The running attempt of a token; or, where it ended with the outcome that is said again, what became of it."""
    sortie, number = attempt_tokens.attempt(token)
    attempt = Attempt.objects.select_related("sortie__brief", "agent").filter(sortie=sortie, number=number).first()
    if attempt is None or not attempt_tokens.is_of(token, attempt.token):
        raise errors.NotFound("There is no such lease.", hint="Claim a sortie; its answer has the token.")
    row = attempt.sortie
    running = row.state == "running" and row.attempt == number
    ours = attempt.agent is not None and attempt.agent.pid is not None
    repeated = not running and not ours and ended_as is not None and attempt.state == ended_as
    if not running and not repeated:
        raise StaleLease(
            f"The lease on {row.key} is lost: attempt {number} is {attempt.state}, and the sortie is {row.state}.",
            hint="Stop that work, and claim anew.",
        )
    spec = SortieSpec.from_json(row.brief.spec)
    claimed = Claim(
        id=row.id,
        mission=row.mission_id,
        key=row.key,
        attempt=number,
        tries=row.tries,
        max_tries=row.max_tries,
        spec=row.brief.spec,
    )
    assert attempt.agent_id is not None
    return AuthenticatedAttempt(
        claim=claimed, spec=spec, agent=attempt.agent_id, ours=ours, repeated_state=row.state if repeated else None
    )
