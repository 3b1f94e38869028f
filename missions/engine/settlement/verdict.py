"""The verdict: from a driver's evidence to the settlement of an attempt. Pure functions.

A driver that reports success is not enough: `verify` must pass too (missions/engine/attempts/execution.py runs it
first). Then the verdict decides the sortie's next state.
"""

from __future__ import annotations

import random

from agents.confinement.attempt_limits import StopReason
from agents.drivers.base import Evidence
from fleet import values
from missions.claims import Claim
from missions.engine.settlement.settling import Settlement
from missions.plan import Retry, SortieSpec

ERROR_LENGTH = 4_000


def judge(*, claim: Claim, spec: SortieSpec, evidence: Evidence, added: tuple[SortieSpec, ...] = ()) -> Settlement:
    """Judge an attempt. If it neither succeeded nor was cancelled, it costs a try.

    The sortie is retried while tries are left, unless the error is permanent.
    """
    if evidence.finished and evidence.ok:
        return Settlement(
            id=claim.id,
            attempt=claim.attempt,
            state="succeeded",
            outcome="succeeded",
            result=values.encode(evidence.result),
            exit_code=evidence.exit_code,
            cpu_s=evidence.cpu_s,
            max_rss_bytes=evidence.max_rss_bytes,
            added=added,
        )
    if evidence.stopped is StopReason.CANCELLED:
        return _settlement(
            claim, evidence, state="cancelled", outcome="cancelled", error="It was cancelled while it ran."
        )
    error = evidence.error or "It failed without an error message."
    return failed(claim=claim, spec=spec, error=error, evidence=evidence, permanent=evidence.permanent)


def failed(
    *, claim: Claim, spec: SortieSpec, error: str, evidence: Evidence | None = None, permanent: bool = False
) -> Settlement:
    """The settlement of a failed try: the sortie waits for its next try, or has failed.

    A permanent error is one of the plan or of the result, so the next try would fail in the same way (docs/drivers.md).
    """
    evidence = evidence or Evidence(finished=False, ok=False)
    tries = claim.tries + 1
    if permanent or tries >= claim.max_tries:
        return _settlement(claim, evidence, state="failed", outcome="failed", error=error, charge=1)
    delay_s = backoff(retry=spec.retry, failures=tries)
    first_line = error.strip().splitlines()[0] if error.strip() else "it failed"
    return _settlement(
        claim,
        evidence,
        state="waiting",
        outcome="failed",
        error=error,
        charge=1,
        delay_s=delay_s,
        waits_for=f"its next try ({tries + 1} of {claim.max_tries}); the last one failed: {first_line}"[:500],
    )


def backoff(*, retry: Retry, failures: int) -> float:
    """Seconds until the next try after this many failures: exponential and bounded.

    Jitter shortens the delay by up to half, so that sorties that failed together do not all return together ("equal
    jitter", AWS Architecture Blog, 2015).
    """
    try:
        delay_s = min(retry.max_s, retry.backoff_s * retry.factor ** (failures - 1))
    except OverflowError:
        delay_s = retry.max_s
    if not retry.jitter:
        return delay_s
    return delay_s * (0.5 + random.random() / 2)


def _settlement(
    claim: Claim,
    evidence: Evidence,
    *,
    state: str,
    outcome: str,
    error: str,
    charge: int = 0,
    delay_s: float = 0.0,
    waits_for: str = "",
) -> Settlement:
    return Settlement(
        id=claim.id,
        attempt=claim.attempt,
        state=state,
        outcome=outcome,
        charge=charge,
        delay_s=delay_s,
        waits_for=waits_for.replace("\x00", "�"),
        error=error.replace("\x00", "�")[-ERROR_LENGTH:],
        exit_code=evidence.exit_code,
        cpu_s=evidence.cpu_s,
        max_rss_bytes=evidence.max_rss_bytes,
    )
