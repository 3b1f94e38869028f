"""The verdict on an attempt: what a driver's evidence comes to. Pure.

A claim of success is not success: the driver says what it saw, `verify` has the last word (missions/engine/execution.py runs it
before it comes here), and this decides what the sortie becomes.
"""

from __future__ import annotations

import random

from agents.drivers.base import Evidence, StopReason
from fleet import values
from missions.claims import Claim
from missions.engine.settling import Settlement
from missions.plan import Retry, SortieSpec

ERROR_LENGTH = 4_000


def judge(*, claim: Claim, spec: SortieSpec, evidence: Evidence, added: tuple[SortieSpec, ...] = ()) -> Settlement:
    """What becomes of the sortie. Whatever neither succeeded nor was cancelled costs a try, and is tried again while
    tries are left, unless the fault is permanent."""
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
        return _ended(claim, evidence, state="cancelled", outcome="cancelled", error="It was cancelled while it ran.")
    error = evidence.error or "it failed without saying why"
    return failed(claim=claim, spec=spec, error=error, evidence=evidence, permanent=evidence.permanent)


def failed(
    *, claim: Claim, spec: SortieSpec, error: str, evidence: Evidence | None = None, permanent: bool = False
) -> Settlement:
    """A try that failed: the sortie waits for the next one, or has failed. It has where the fault is permanent, that is,
    one of the plan or of the result, which the next try would meet again (docs/drivers.md, "What is tried again")."""
    evidence = evidence or Evidence(finished=False, ok=False)
    tries = claim.tries + 1
    if permanent or tries >= claim.max_tries:
        return _ended(claim, evidence, state="failed", outcome="failed", error=error, charge=1)
    delay_s = backoff(retry=spec.retry, failures=tries)
    first_line = error.strip().splitlines()[0] if error.strip() else "it failed"
    return _ended(
        claim,
        evidence,
        state="waiting",
        outcome="failed",
        error=error,
        charge=1,
        delay_s=delay_s,
        waits_for=f"its next try ({tries + 1} of {claim.max_tries}); the last one failed: {first_line}"[:500],
    )


def backoff(*, retry: Retry, failures: int, chance: random.Random | None = None) -> float:
    """Seconds until the next try after so many failures: exponential, bounded, and with jitter between half and all
    of it, so that what failed together does not come back together ("equal jitter", AWS Architecture Blog, 2015)."""
    try:
        whole = min(retry.max_s, retry.backoff_s * retry.factor ** (failures - 1))
    except OverflowError:
        whole = retry.max_s
    if not retry.jitter:
        return whole
    return whole * (0.5 + (chance or random).random() / 2)


def _ended(
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
