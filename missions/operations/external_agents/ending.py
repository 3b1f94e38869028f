"""Ends attempts by their lease tokens: succeeded, failed, or returned to the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, JSONField
from django.db.models.expressions import RawSQL

from agents.drivers.base import Evidence
from agents.models import Agent
from fleet import errors, values
from missions.attempt_tokens import StaleLease
from missions.claims import Claim
from missions.engine.attempts import added_sorties
from missions.engine.settlement import settle_and_claim, verdict
from missions.engine.settlement.settling import Settlement
from missions.models import Attempt, Lane, Patch, Sortie, WaitsOn, Workspace
from missions.operations.external_agents import attempt_auth, membership
from missions.operations.external_agents.attempt_auth import AuthenticatedAttempt
from missions.plan import SortieSpec

PATCH_BYTES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedPatch:
    """What an external agent has changed in the mission's repository, as `git diff --binary BASE` prints it."""

    base: str  # from the claim
    text: str


def complete(
    *,
    token: str,
    result: Any = None,
    added: Sequence[Mapping[str, Any]] = (),
    verified: int | None = None,
    patch: SubmittedPatch | None = None,
    edits_templates: bool = True,
) -> str:
    """Settle an attempt as succeeded. Returns the sortie's state: succeeded, waiting for the next try, or failed.

    If the plan has a `verify`, `verified` is that command's exit code, and only 0 counts as success. If the sortie
    works on a repository, it succeeds only when its `patch` has been merged: until then it waits, and an agent of the
    fleet runs `verify`, whatever `verified` says. A repeated call returns the same as the first.

    `edits_templates`: the caller may edit templates, and so may add code to a mission of one.

    Raises Conflict if a repeated call has another result; StaleLease if the lease is lost; Invalid if the result is not
    JSON or is too large, or for a patch that is missing or not expected; PlanError if the added sorties are not valid.
    """
    attempt = attempt_auth.authenticate_to_end(token, "succeeded")
    try:
        values.check(result, max_bytes=settings.FLEET_RESULT_BYTES)
    except values.Unacceptable as error:
        raise errors.Invalid(
            f"The result is not accepted: {error}.", hint="Pass large data as files.", pointer="/result"
        ) from None
    redactor = attempt_auth.redactor(attempt, token)
    result, added = redactor.value(result), redactor.value(list(added))
    if attempt.repeated_state is not None:
        _require_same_result(attempt.claim, result)
        return attempt.repeated_state
    if not all(isinstance(item, Mapping) for item in added):
        raise errors.Invalid(
            "Each sortie to add must be a JSON object.", hint="Use the format of FLEET_SORTIES (docs/drivers.md)."
        )
    evidence = Evidence(finished=True, ok=True, result=result, added=tuple(dict(item) for item in added))
    workspace = _workspace(attempt)
    _check_patch(attempt, workspace=workspace, patch=patch, token=token)
    if patch is not None and patch.text and workspace is not None:
        specs = _added(attempt, evidence, edits_templates)
        row = _patch_row(attempt, patch, result, specs)
        return _settle(attempt, _waits_for_merge(attempt, result), patch=row, workspace=workspace)
    if attempt.spec.verify is not None and verified != 0:
        why = "no exit code was reported (`verified`)" if verified is None else f"it ended with exit code {verified}"
        evidence = Evidence(
            finished=True,
            ok=False,
            error=f"The work succeeded, but `verify` failed: {why}.",
            exit_code=verified,
        )
    specs = _added(attempt, evidence, edits_templates)
    return _settle(attempt, verdict.judge(claim=attempt.claim, spec=attempt.spec, evidence=evidence, added=specs))


def _added(attempt: AuthenticatedAttempt, evidence: Evidence, edits_templates: bool) -> tuple[SortieSpec, ...]:
    if not evidence.added:
        return ()
    return added_sorties.check(claim=attempt.claim, items=evidence.added, edits_templates=edits_templates)


def _workspace(attempt: AuthenticatedAttempt) -> Workspace | None:
    return Workspace.objects.filter(mission=attempt.claim.mission).first() if attempt.spec.workspace else None


def _check_patch(
    attempt: AuthenticatedAttempt, *, workspace: Workspace | None, patch: SubmittedPatch | None, token: str
) -> None:
    key = attempt.claim.key
    if workspace is None:
        if patch is not None:
            raise errors.Invalid(
                f"{key} has no workspace, so it takes no patch.", hint="Omit `patch` and `base`.", pointer="/patch"
            )
        return
    if patch is None or not patch.text:
        if attempt.spec.changes == "required":
            raise errors.Invalid(
                f"{key} has to change its repository, but no patch was sent.",
                hint="Send `git diff --binary BASE` as `patch`, with the `base` of the claim. If nothing has to be changed,"
                " fail the sortie and say why.",
                pointer="/patch",
            )
        return
    if len(patch.text.encode("utf-8", "surrogatepass")) > PATCH_BYTES:
        raise errors.Invalid(f"The patch has more than {PATCH_BYTES:,} bytes.", pointer="/patch")
    if token.rpartition(".")[2] in patch.text:
        raise errors.Invalid("The patch contains the lease token.", hint="Remove it.", pointer="/patch")


def _patch_row(attempt: AuthenticatedAttempt, patch: SubmittedPatch, result: Any, added: Sequence[SortieSpec]) -> Patch:
    return Patch(
        sortie_id=attempt.claim.id,
        base=patch.base,
        data=patch.text.encode("utf-8", "surrogatepass"),
        result=values.encode(result),
        added_sorties=[spec.as_json() for spec in added],
    )


def _waits_for_merge(attempt: AuthenticatedAttempt, result: Any) -> Settlement:
    return Settlement(
        id=attempt.claim.id,
        attempt=attempt.claim.attempt,
        state="waiting",
        outcome="committed",
        waits_on=WaitsOn.MERGE,
        waits_for="the merge of its patch by an agent of the fleet",
        result=values.encode(result),
        has_change=True,
    )


def _require_same_result(claim: Claim, result: Any) -> None:
    """Raise Conflict if the accepted result differs. Postgres compares them, because it normalises JSON numbers."""
    accepted = Attempt.objects.filter(sortie=claim.id, number=claim.attempt)
    same = accepted.filter(result=RawSQL("%s::jsonb", [values.encode(result)], JSONField()))
    if not same.exists():
        raise errors.Conflict(
            f"{claim.key} has already succeeded with another result, which is kept.",
            hint="Send nothing more for this attempt; it has ended.",
        )


def fail(*, token: str, error: str, retry: bool = True) -> str:
    """Settle an attempt as failed. Returns the sortie's state: waiting for the next try, or failed.

    It is retried while tries are left, unless `retry` is false. Raises the same errors as `complete`.
    """
    attempt = attempt_auth.authenticate_to_end(token, "failed")
    if attempt.repeated_state is not None:
        return attempt.repeated_state
    error = attempt_auth.redactor(attempt, token).text(error) or "The work failed without an error message."
    return _settle(attempt, verdict.failed(claim=attempt.claim, spec=attempt.spec, error=error, permanent=not retry))


def give_back(*, token: str, why: str = "its agent handed it back") -> None:
    """Return an attempt's sortie to the queue; this costs no try."""
    attempt = attempt_auth.authenticate_to_end(token)
    with transaction.atomic(), connection.cursor() as cursor:
        consequences = settle_and_claim.give_back(
            cursor.cursor, attempts=[(attempt.claim.id, attempt.claim.attempt)], why=why.replace("\x00", "�")[:500]
        )
        membership.audit_attempt("give_back", attempt.claim.id, attempt.claim.attempt)
    membership.follow_up(consequences)


def _settle(
    attempt: AuthenticatedAttempt,
    settlement: Settlement,
    *,
    patch: Patch | None = None,
    workspace: Workspace | None = None,
) -> str:
    """Settle an attempt, with its patch if it has one; returns the sortie's state. Raises StaleLease if it is lost."""
    agent = Agent.objects.get(id=attempt.agent)
    with transaction.atomic(), connection.cursor() as cursor:
        if patch is not None and workspace is not None:
            patch.save()
            Lane.objects.get_or_create(repository=workspace.repository, branch=workspace.branch)
        consequences = settle_and_claim.settle_and_claim(
            cursor.cursor, by=membership.claimant(agent), settlements=[settlement]
        )
        Agent.objects.filter(id=attempt.agent).update(settled=F("settled") + len(consequences.accepted))
        if attempt.claim.id in consequences.accepted:
            verb = "complete" if settlement.outcome in ("succeeded", "committed") else "fail"
            membership.audit_attempt(verb, attempt.claim.id, attempt.claim.attempt)
    if attempt.claim.id not in consequences.accepted:
        raise StaleLease(f"The lease on {attempt.claim.key} is lost.", hint="Stop the work and claim again.")
    membership.follow_up(consequences)
    return str(Sortie.objects.values_list("state", flat=True).get(id=attempt.claim.id))
