"""One attempt, from claim to verdict: prepare, run the driver, verify, collect, judge.

No transaction and no database connection is held while a driver works.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from django.db import connection

from agents import drivers
from agents.drivers import reaper
from agents.drivers.base import Brief, Evidence, Stop
from fleet import errors
from fleet.observability import logs
from fleet.postgres import retries
from missions.artifacts import collection
from missions.claims import Claim
from missions.engine import added_sorties, preparation, scratch, verdict
from missions.engine.output import OutputBuffer
from missions.engine.preparation import TypeSettings
from missions.engine.settling import Settlement
from missions.plan import SortieSpec

log = logging.getLogger("fleet.execution")

T = TypeVar("T")


def execute(*, claim: Claim, type_settings: TypeSettings, output: OutputBuffer, stop: Stop) -> Settlement:
    """Execute one attempt and judge it. While Postgres does not answer, it retries until the attempt is stopped."""
    spec = SortieSpec.from_json(claim.spec)
    folder = scratch.path(claim.marker)
    brief: Brief | None = None
    log_token = logs.about.set(claim.log_fields)
    try:
        _end_earlier_attempts(claim)
        driver, brief, check = _until_answered(
            lambda: preparation.prepare(claim=claim, spec=spec, type_settings=type_settings, folder=folder), stop=stop
        )
        if check is not None:  # outputs are copied after `verify`: what is stored is what was verified
            brief = replace(brief, outputs=())
        evidence = driver.run(brief=brief, reporter=output, stop=stop)
        if evidence.ok and check is not None:
            evidence = _verify(check=check, evidence=evidence, output=output, stop=stop)
        added: tuple[SortieSpec, ...] = ()
        if evidence.ok:
            if items := evidence.added:
                added = _until_answered(lambda: added_sorties.check(claim=claim, items=items), stop=stop)
            _collect(claim=claim, spec=spec, evidence=evidence, stop=stop)
        if evidence.error:
            evidence = replace(evidence, error=brief.redactor().text(evidence.error))
        return verdict.judge(claim=claim, spec=spec, evidence=evidence, added=added)
    except _Stopped:
        return verdict.judge(claim=claim, spec=spec, evidence=Evidence(finished=False, ok=False, stopped=stop.reason))
    except errors.FleetError as fault:
        # A fault of the plan is permanent. An output that is missing now may exist after the next try.
        permanent = isinstance(fault, errors.Invalid) and not isinstance(fault, collection.Missing)
        return verdict.failed(claim=claim, spec=spec, error=_redacted(brief, str(fault)), permanent=permanent)
    except Exception as fault:  # drivers return evidence; anything that they raise is a defect and costs one try
        log.exception("%s: its driver raised", claim.marker)
        return verdict.failed(claim=claim, spec=spec, error=_redacted(brief, f"{type(fault).__name__}: {fault}"))
    finally:
        logs.about.reset(log_token)
        if spec.driver != "scripted":
            scratch.remove(folder)
            if spec.outputs:
                scratch.remove(scratch.outbox(claim.marker))


def _end_earlier_attempts(claim: Claim) -> None:
    """Kill processes of earlier attempts on this host: an agent that was declared lost may only have been paused."""
    if claim.attempt > 1 and (survivors := reaper.reap_earlier(claim.marker)):
        raise errors.Conflict(
            f"An earlier attempt still runs on {socket.gethostname()} and cannot be ended: pid "
            f"{', '.join(map(str, sorted(survivors)[:10]))}.",
            hint="End it there, then retry the sortie.",
        )


def _redacted(brief: Brief | None, text: str) -> str:
    return text if brief is None else brief.redactor().text(text)


class _Stopped(Exception):
    """The attempt was stopped while it waited for Postgres."""


def _until_answered(query: Callable[[], T], *, stop: Stop) -> T:
    """Retry until Postgres answers, so that an outage costs no try. Returns the connection to the pool afterwards."""

    def query_and_close() -> T:
        try:
            return query()
        finally:
            if connection.connection is not None:  # `close` alone costs a tenth of a sortie that reads nothing
                connection.close()

    try:
        return retries.retry(
            query_and_close,
            on_failure=lambda fault, _: log.warning("Postgres does not answer (%s); retrying", str(fault).strip()),
            stop=lambda: stop.reason is not None,
        )
    except retries.TRANSIENT as fault:
        raise _Stopped from fault


def _verify(*, check: Brief, evidence: Evidence, output: OutputBuffer, stop: Stop) -> Evidence:
    """Run the plan's `verify` command in the same place and environment; it has the last word on success."""
    verified = drivers.get("command").run(brief=check, reporter=output, stop=stop)
    if verified.ok:
        return replace(evidence, outputs=verified.outputs)
    return replace(
        evidence,
        ok=False,
        stopped=verified.stopped,
        exit_code=verified.exit_code,
        permanent=verified.permanent,
        error=f"The work succeeded, but `verify` failed: {verified.error or 'it exited with an error'}",
    )


def _collect(*, claim: Claim, spec: SortieSpec, evidence: Evidence, stop: Stop) -> None:
    """Store the files of the plan's `outputs`, which the attempt's shim has copied to the outbox."""
    if spec.outputs and spec.driver != "scripted":
        copies = dict(zip(spec.outputs, evidence.outputs, strict=True))
        outbox = scratch.outbox(claim.marker)
        _until_answered(lambda: collection.collect(claim=claim, copies=copies, outbox=outbox), stop=stop)
