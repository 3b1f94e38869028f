"""One attempt, from claim to verdict: prepare, drive, verify, collect, judge.

Nothing here holds a transaction while a driver works. Reading what the attempt needs, and writing what came of it,
are short; between them there is only the driver.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from agents import drivers
from agents.drivers import reaper
from agents.drivers.base import Brief, Driver, Evidence, Limits, Needs, Stop
from fleet import errors, ids, logs, services, statements
from fleet.redactor import Redactor
from missions import artifacts, leases, places, scratch, surroundings, verdict
from missions.claims import Claim
from missions.plan import Fault, PlanError, SortieSpec, added, templates
from missions.plan.faults import ADDED
from missions.scribe import Page
from missions.settling import Settlement
from missions.states import SortieState

log = logging.getLogger("fleet.flight")

ASK_AGAIN_S = 0.5
MB = 1_000_000
# What an attempt may have where its type does not say.
MEMORY_BYTES = min(4_000 * MB, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
DISK_BYTES = 10_000 * MB
TMP_BYTES = 1_000 * MB
PROCESSES = 512
OPEN_FILES = 4_096
RESERVE_BYTES = 1_000 * MB  # that stays free on a disk for all others
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a type's attempts have in common: its row, as it was when the agent started (see `as_it_is_now`)."""

    agent_type: str
    prompt_argv: tuple[str, ...] = ()
    env_allow: frozenset[str] = frozenset()
    env_secret: frozenset[str] = frozenset()
    readable: tuple[str, ...] = ()
    network: bool = True
    memory_mb: int = 0  # 0: the default, MEMORY_BYTES
    disk_mb: int = 0  # 0: the default, DISK_BYTES
    longest_s: int = 0  # 0: no limit


def fly(*, claim: Claim, kit: Kit, page: Page, stop: Stop) -> Settlement:
    """Fly one attempt and judge it. Where Postgres does not answer, it is asked again until the attempt is stopped."""
    spec = SortieSpec.from_json(claim.spec)
    folder = scratch.path(claim.marker)
    brief: Brief | None = None
    before = logs.about.set(claim.named)
    try:
        end_earlier(claim)
        driver, brief, check = insist(lambda: prepare(claim=claim, spec=spec, kit=kit, folder=folder), stop=stop)
        if check is not None:  # what is given out is what was verified
            brief = replace(brief, outputs=())
        evidence = drive(driver=driver, brief=brief, page=page, stop=stop)
        if evidence.ok and check is not None:
            evidence = verify(check=check, evidence=evidence, page=page, stop=stop)
        more: tuple[SortieSpec, ...] = ()
        if evidence.ok:
            more = insist(lambda: added_by(claim=claim, evidence=evidence), stop=stop)
            collect(claim=claim, spec=spec, evidence=evidence, stop=stop)
        if evidence.error:
            evidence = replace(evidence, error=brief.redactor().text(evidence.error))
        return verdict.judge(claim=claim, spec=spec, evidence=evidence, added=more)
    except Stopped:
        return verdict.judge(claim=claim, spec=spec, evidence=Evidence(finished=False, ok=False, stopped=stop.reason))
    except errors.FleetError as fault:
        # A fault of the plan stays; an output that was not made this time may be the next time.
        permanent = isinstance(fault, errors.Invalid) and not isinstance(fault, artifacts.Missing)
        return verdict.failed(claim=claim, spec=spec, error=_hidden(brief, str(fault)), permanent=permanent)
    except Exception as surprise:  # a driver may raise only by surprise, and a surprise is a failed try
        log.exception("%s: its driver raised", claim.marker)
        return verdict.failed(claim=claim, spec=spec, error=_hidden(brief, f"{type(surprise).__name__}: {surprise}"))
    finally:
        logs.about.reset(before)
        if spec.driver != "scripted":
            scratch.remove(folder)
            if spec.outputs:
                scratch.remove(scratch.outbox(claim.marker))


def end_earlier(claim: Claim) -> None:
    """Leave nothing on this host of earlier attempts, whose agents and shims may be halted: of each sortie one runs."""
    if claim.attempt > 1 and (left := reaper.reap_earlier(claim.marker)):
        raise errors.Conflict(
            f"An earlier attempt still runs on {socket.gethostname()} and cannot be ended: pid "
            f"{', '.join(map(str, sorted(left)[:10]))}.",
            hint="End it there, then retry the sortie.",
        )


def _hidden(brief: Brief | None, text: str) -> str:
    return text if brief is None else brief.redactor().text(text)


class Stopped(Exception):
    """The attempt was stopped while it waited for Postgres."""


def insist(ask: Callable[[], T], *, stop: Stop) -> T:
    """Ask Postgres again until it answers: its absence is not the attempt's fault, and costs it no try. The connection goes
    back into the pool then: an attempt holds none while its driver works."""
    while True:
        try:
            return ask()
        except (OperationalError, InterfaceError) as fault:
            log.warning("Postgres does not answer (%s); asking again", str(fault).strip())
            if stop.reason is not None:
                raise Stopped from fault
        finally:
            connection.close()
        time.sleep(ASK_AGAIN_S)


def prepare(*, claim: Claim, spec: SortieSpec, kit: Kit, folder: Path) -> tuple[Driver, Brief, Brief | None]:
    """Read what the attempt needs and fill its templates in: for its driver, and for `verify` where the plan has one."""
    circumstances = _circumstances(claim=claim, spec=spec)
    scope = _scope(claim, spec, circumstances)
    if spec.driver != "scripted":
        kit = as_it_is_now(kit)
        scratch.make(folder)
        if spec.outputs:
            scratch.make(scratch.outbox(claim.marker))
    works_in = circumstances.folder
    if works_in:
        places.check_folder(works_in)
    readable = tuple(map(Path, (*kit.readable, *circumstances.readable)))
    api = "" if spec.driver == "scripted" else services.api()
    brief = Brief(
        marker=claim.marker,
        try_number=claim.tries + 1,
        fleet=settings.FLEET_HOME.id,
        api=api,
        token=leases.give(sortie=claim.id, attempt=claim.attempt) if api else "",
        arguments=_filled(spec.arguments, scope),
        needs=circumstances.results,
        need_states=circumstances.states,
        inputs=circumstances.inputs,
        env={
            **{name: templates.as_text(value) for name, value in _filled(spec.env, scope).items()},
            "FLEET_MISSION": ids.encode(ids.MISSION, claim.mission),
            "FLEET_SORTIE": claim.key,
        },
        env_allow=allowed(kit.env_allow | kit.env_secret | frozenset(settings.FLEET_ENV_ALLOW)),
        secret_env=spec.secret_env | kit.env_secret,
        cwd=places.cwd(
            named=None if spec.cwd is None else templates.as_text(templates.render(value=spec.cwd, scope=scope)),
            folder=works_in,
            scratch=folder,
            allowed=readable,
        ),
        scratch=folder,
        confined=settings.FLEET_SANDBOX,
        writable=(Path(works_in),) if works_in else (),
        readable=readable,
        hidden=(settings.FLEET_HOME.root,),
        network=kit.network,
        outputs=spec.outputs,
        outbox=scratch.outbox(claim.marker) if spec.outputs else None,
        limits=Limits(
            timeout_s=spec.timeout_s or settings.FLEET_TIMEOUT_S,
            longest_s=kit.longest_s or None,
            silence_s=spec.silence_s or (settings.FLEET_PROMPT_SILENCE_S if spec.driver == "prompt" else None),
            grace_s=settings.FLEET_GRACE_S,
            linger_s=settings.FLEET_LINGER_S,
            result_bytes=settings.FLEET_RESULT_BYTES,
            added_bytes=settings.FLEET_ADDED_BYTES,
            memory_bytes=kit.memory_mb * MB or MEMORY_BYTES,
            disk_bytes=kit.disk_mb * MB or DISK_BYTES,
            tmp_bytes=TMP_BYTES,
            output_bytes=settings.FLEET_ARTIFACT_BYTES,
            processes=PROCESSES,
            open_files=OPEN_FILES,
            reserve_bytes=RESERVE_BYTES,
        ),
    )
    check = _commanded(brief, spec.verify, scope) if spec.verify is not None else None
    match spec.driver:
        case "command":
            brief = _commanded(brief, spec.run, scope)
        case "python":
            brief = replace(brief, call=spec.call or "")
        case "prompt":
            if not kit.prompt_argv:
                raise errors.Invalid(
                    f"Agent type {kit.agent_type!r} takes no prompts.",
                    hint="Give it a command that reads one (prompt argv, in the admin under Agent types), then retry.",
                )
            brief = replace(
                brief, argv=kit.prompt_argv, stdin=templates.as_text(templates.render(value=spec.prompt, scope=scope))
            )
    return drivers.get("command" if spec.driver == "prompt" else spec.driver), brief, check


def described(*, claim: Claim, spec: SortieSpec) -> dict[str, Any]:
    """The work as an agent from outside is told it, its templates filled in: `{driver, run, call, prompt, with, verify,
    env, needs, need_states, inputs, matrix, outputs, timeout_s, mission}`; what the plan does not name is None."""
    circumstances = _circumstances(claim=claim, spec=spec)
    scope = _scope(claim, spec, circumstances)

    def words(text: str | tuple[str, ...] | None) -> Any:
        if isinstance(text, tuple):
            return [templates.as_text(templates.render(value=word, scope=scope)) for word in text]
        return text

    prompt = None if spec.prompt is None else templates.as_text(templates.render(value=spec.prompt, scope=scope))
    return {
        "driver": spec.driver,
        "run": words(spec.run),
        "call": spec.call,
        "prompt": prompt,
        "with": dict(_filled(spec.arguments, scope)),
        "verify": words(spec.verify),
        "env": {name: templates.as_text(value) for name, value in _filled(spec.env, scope).items()},
        "secret_env": sorted(spec.secret_env),
        "needs": dict(circumstances.results),
        "need_states": dict(circumstances.states),
        "inputs": dict(circumstances.inputs),
        "matrix": dict(spec.matrix),
        "outputs": list(spec.outputs),
        "timeout_s": spec.timeout_s or settings.FLEET_TIMEOUT_S,
        "mission": circumstances.mission,
    }


def redactor(*, claim: Claim, spec: SortieSpec, agent_type: str, token: str) -> Redactor:
    """What hides the secrets of an attempt in what it says over the API. Of the host's variables it knows what this process
    has of them itself."""
    kit = as_it_is_now(Kit(agent_type=agent_type))
    env: Mapping[str, Any] = {}
    if spec.secret_env:
        env = _filled(spec.env, _scope(claim, spec, _circumstances(claim=claim, spec=spec)))
    return Brief(
        marker=claim.marker,
        scratch=Path(),
        token=token,
        env={name: templates.as_text(value) for name, value in env.items()},
        env_allow=allowed(kit.env_allow | kit.env_secret | frozenset(settings.FLEET_ENV_ALLOW)),
        secret_env=spec.secret_env | kit.env_secret,
    ).redactor()


def as_it_is_now(kit: Kit) -> Kit:
    """An operator may have given the type a prompt command, a variable or a limit since the agent started."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT prompt_argv, env_allow, env_secret, readable, network, memory_mb, disk_mb, longest_s"
            " FROM agents_agenttype WHERE name = %s",
            [kit.agent_type],
        )
        row = cursor.fetchone()
    if row is None:
        return kit
    argv, allow, secret, readable, network, memory_mb, disk_mb, longest_s = row
    return replace(
        kit,
        prompt_argv=tuple(map(str, _loaded(argv))),
        env_allow=frozenset(map(str, _loaded(allow))),
        env_secret=frozenset(map(str, _loaded(secret))),
        readable=tuple(map(str, _loaded(readable))),
        network=network,
        memory_mb=memory_mb,
        disk_mb=disk_mb,
        longest_s=longest_s,
    )


def drive(*, driver: Driver, brief: Brief, page: Page, stop: Stop) -> Evidence:
    """The work itself."""
    return driver.fly(brief=brief, reporter=page, stop=stop)


def verify(*, check: Brief, evidence: Evidence, page: Page, stop: Stop) -> Evidence:
    """The last word on success: the plan's `verify` command, in the same place and with the same environment."""
    word = drivers.get("command").fly(brief=check, reporter=page, stop=stop)
    if word.ok:
        return replace(evidence, outputs=word.outputs)
    return replace(
        evidence,
        ok=False,
        stopped=word.stopped,
        exit_code=word.exit_code,
        permanent=word.permanent,
        error=f"It claimed success, but `verify` did not agree: {word.error or 'it ended with an error'}",
    )


def collect(*, claim: Claim, spec: SortieSpec, evidence: Evidence, stop: Stop) -> None:
    """Store the files that the plan names under `outputs`, which the attempt's shim has copied to the outbox."""
    if spec.outputs and spec.driver != "scripted":
        copies = dict(zip(spec.outputs, evidence.outputs, strict=True))
        outbox = scratch.outbox(claim.marker)
        insist(lambda: artifacts.collect(claim=claim, copies=copies, outbox=outbox), stop=stop)


def added_by(*, claim: Claim, evidence: Evidence) -> tuple[SortieSpec, ...]:
    """The sorties that the attempt asks to add, checked as a plan is; PlanError where they are not valid."""
    if not evidence.added:
        return ()
    with connection.cursor() as cursor:
        cursor.execute("SELECT key, state FROM missions_sortie WHERE mission_id = %s", [claim.mission])
        existing = dict(cursor.fetchall())
        cursor.execute(
            "SELECT m.defaults, m.inputs, m.executes, s.priority FROM missions_sortie s"
            " JOIN missions_mission m ON m.id = s.mission_id WHERE s.id = %s",
            [claim.id],
        )
        defaults, inputs, executes, priority = cursor.fetchone()
    found = added(
        items=evidence.added,
        existing=existing,
        begun={key for key, state in existing.items() if state != SortieState.PENDING},
        parent=claim.key,
        surroundings=surroundings.current(),
        defaults=_loaded(defaults),
        inputs=_loaded(inputs),
        priority=priority,
    )
    if not executes and (code := [spec.key for spec in found if spec.executes]):
        raise PlanError(
            Fault(
                line=None,
                column=None,
                where=f"{ADDED}{claim.key}.{key}",
                path=(f"{ADDED}{claim.key}", key),
                fault="It runs code, and its mission was launched by somebody who may not (plan.execute).",
                fix="Add prompts, or have somebody launch it who may.",
            )
            for key in code[:10]
        )
    return found


@dataclass(frozen=True, slots=True)
class _Circumstances:
    mission: str
    folder: str
    readable: tuple[str, ...]
    inputs: Mapping[str, Any]
    results: Needs
    states: Mapping[str, str]


def _scope(claim: Claim, spec: SortieSpec, circumstances: _Circumstances) -> templates.Scope:
    return templates.Scope(
        needs=circumstances.results,
        inputs=circumstances.inputs,
        matrix=spec.matrix,
        mission={"id": ids.encode(ids.MISSION, claim.mission), "name": circumstances.mission},
        sortie={"id": ids.encode(ids.SORTIE, claim.id), "key": claim.key, "attempt": claim.attempt},
    )


def _circumstances(*, claim: Claim, spec: SortieSpec) -> _Circumstances:
    """What the mission and the needs give the attempt. In-process scripts that name no need are spared the reading."""
    if spec.driver == "scripted" and not spec.arguments:
        return _Circumstances("", "", (), {}, Needs({}), {})
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, folder, readable, inputs FROM missions_mission WHERE id = %s", [claim.mission])
        name, folder, readable, inputs = cursor.fetchone()
        most = settings.FLEET_NEEDS_BYTES
        cursor.execute(statements.read("missions", "needs"), {"sortie": claim.id, "most": most})
        rows = cursor.fetchall()
    if rows and (total := rows[0][3]) > most:
        raise errors.Invalid(
            f"The results that it needs have {total:,} bytes together; {most:,} are allowed (FLEET_NEEDS_BYTES).",
            hint="Put sorties between that each sum some of them up, or give large things out as files.",
        )
    return _Circumstances(
        mission=name,
        folder=folder,
        readable=tuple(_loaded(readable)),
        inputs=_loaded(inputs),
        results=_by_need(spec, {key: result or "null" for key, _, result, _ in rows}),
        states={key: state for key, state, _, _ in rows},
    )


def _by_need(spec: SortieSpec, results: Mapping[str, str]) -> Needs:
    """Results under the names that the plan gives the needs: a matrix's as a list. Needs that were added at run time
    (`before`) come under the name before their bracket, as a list too. They stay JSON text: see `Needs`."""
    named: dict[str, str | list[str]] = {
        need: [results.get(key, "null") for key in keys] if need in spec.many else results.get(keys[0], "null")
        for need, keys in spec.groups.items()
    }
    foreseen = set(spec.needs)
    for key, result in results.items():
        if key not in foreseen:
            name = key.partition("[")[0]
            if name == key:
                named[name] = result
            elif isinstance(group := named.setdefault(name, []), list):
                group.append(result)
    return Needs(named)


def _commanded(brief: Brief, run: str | tuple[str, ...] | None, scope: templates.Scope) -> Brief:
    if isinstance(run, tuple):
        return replace(brief, argv=tuple(templates.as_text(templates.render(value=word, scope=scope)) for word in run))
    return replace(brief, shell=run or "")


def allowed(names: frozenset[str]) -> frozenset[str]:
    """Without the fleet's own variables, which hold credentials: no agent type may let those through."""
    return frozenset(
        name
        for name in names
        if not name.startswith("FLEET_") and name not in {"DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL"}
    )


def _filled(values: Mapping[str, Any], scope: templates.Scope) -> dict[str, Any]:
    return {name: templates.render(value=value, scope=scope) for name, value in values.items()}


def _loaded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def number(marker: str) -> tuple[UUID, int]:
    """The sortie and the attempt that a marker names."""
    text, _, attempt = marker.partition("/")
    return ids.decode(ids.SORTIE, text), int(attempt)
