"""Authenticates calls about an attempt by its lease token (missions/attempt_tokens.py)."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from fleet import errors
from fleet.observability.redactor import Redactor
from missions import attempt_tokens
from missions.attempt_tokens import StaleLease
from missions.claims import Claim
from missions.engine.attempts import preparation
from missions.models import Attempt, Sortie
from missions.plan import SortieSpec
from missions.states import SortieState


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedAttempt:
    """An attempt whose token was presented and is valid."""

    claim: Claim
    spec: SortieSpec
    agent: UUID
    internal: bool  # run by one of the fleet's own agents
    repeated_state: str | None = None  # the sortie's state, if this outcome was already accepted earlier


def parse(token: str) -> tuple[UUID, int] | None:
    """The sortie and the attempt number that a token contains; None for text that is not a token."""
    try:
        return attempt_tokens.parse(token)
    except errors.Invalid:
        return None


def authenticate_to_end(token: str, outcome: str | None = None) -> AuthenticatedAttempt:
    """The attempt that a token may end. Raises Conflict if one of the fleet's own agents runs it, and thus ends it."""
    attempt = authenticate(token, ended_as=outcome)
    if attempt.internal:
        raise errors.Conflict(
            f"{attempt.claim.key} is run by one of the fleet's own agents, which settles it when its process exits.",
            hint="Write the result to FLEET_RESULT and exit with 0, or exit with another code if the work failed.",
        )
    return attempt


def authenticate(token: str, *, ended_as: str | None = None) -> AuthenticatedAttempt:
    """The running attempt of a token. An attempt that already ended as `ended_as` is returned with `repeated_state`.

    Raises NotFound for an unknown token; StaleLease if its attempt is no longer the running one.
    """
    sortie, number = attempt_tokens.parse(token)
    attempts = Attempt.objects.select_related("sortie__brief", "agent").defer("resume")
    attempt = attempts.filter(sortie=sortie, number=number).first()
    if attempt is None or not attempt_tokens.matches(token, attempt.token):
        raise errors.NotFound("Unknown lease token.", hint="Claim a sortie; the response contains its token.")
    row = attempt.sortie
    running = row.state == SortieState.RUNNING and row.attempt == number
    internal = attempt.agent is not None and attempt.agent.pid is not None
    # An attempt whose patch was accepted is committed.
    same_outcome = ("succeeded", "committed") if ended_as == "succeeded" else (ended_as,)
    repeated = not running and not internal and ended_as is not None and attempt.state in same_outcome
    if not running and not repeated:
        raise StaleLease(
            f"The lease on {row.key} is lost: attempt {number} is {attempt.state}, and the sortie is {row.state}.",
            hint="Stop the work and claim again.",
        )
    spec = SortieSpec.from_json(row.brief.spec)
    claim = Claim(
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
        claim=claim,
        spec=spec,
        agent=attempt.agent_id,
        internal=internal,
        repeated_state=row.state if repeated else None,
    )


def redactor(attempt: AuthenticatedAttempt, token: str) -> Redactor:
    """A redactor for the secrets of an attempt, including its token."""
    agent_type = Sortie.objects.values_list("agent_type", flat=True).get(id=attempt.claim.id)
    return preparation.redactor_for_external_agent(
        claim=attempt.claim, spec=attempt.spec, agent_type=agent_type, token=token
    )
