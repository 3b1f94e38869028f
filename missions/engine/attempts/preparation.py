"""Prepare an attempt: make the brief of its driver from its claim, its spec and its agent type."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from django.conf import settings
from django.db import connection

from agents import drivers
from agents.confinement.attempt_limits import Limits
from agents.drivers.base import AttemptBrief, Driver
from fleet import errors, ids, services
from fleet.config.datastores import SECRETS
from fleet.console import invocation
from fleet.observability.redactor import Redactor
from missions import attempt_tokens, folders, hidden_folders
from missions.claims import Claim
from missions.engine.attempts import context, scratch
from missions.engine.attempts.context import AttemptContext, decode_json, render_values, render_variables
from missions.engine.changes.workspace_attempt import WorkspaceAttempt
from missions.models import Change, Patch, SavedWork, Workspace
from missions.plan import SortieSpec, templates
from missions.workspaces import conflicts, moving

MB = 1_000_000
# Limits of an attempt whose agent type sets none.
MEMORY_BYTES = min(4_000 * MB, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
DISK_BYTES = 10_000 * MB
TMP_BYTES = 1_000 * MB
PROCESSES = 512
OPEN_FILES = 4_096
RESERVE_BYTES = 1_000 * MB  # left free on the disk for other users


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeSettings:
    """The settings of an agent type that apply to all its attempts. `refresh` reads them from the database."""

    agent_type: str
    prompt_argv: tuple[str, ...] = ()
    env_allow: frozenset[str] = frozenset()
    env_secret: frozenset[str] = frozenset()
    readable: tuple[str, ...] = ()
    network: bool = True
    memory_mb: int = 0  # 0: the default, MEMORY_BYTES
    disk_mb: int = 0  # 0: the default, DISK_BYTES
    max_duration_s: int = 0  # 0: no limit

    @property
    def inherited(self) -> frozenset[str]:
        """The variables of the agent's own environment that its attempts see."""
        return inheritable(self.env_allow | self.env_secret | frozenset(settings.FLEET_ENV_ALLOW))


def refresh(type_settings: TypeSettings) -> TypeSettings:
    """These settings as the database has them now. Read for each attempt, because an operator may change them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT prompt_argv, env_allow, env_secret, readable, network, memory_mb, disk_mb, max_duration_s"
            " FROM agents_agenttype WHERE name = %s",
            [type_settings.agent_type],
        )
        row = cursor.fetchone()
    if row is None:
        return type_settings
    argv, allow, secret, readable, network, memory_mb, disk_mb, max_duration_s = row
    return replace(
        type_settings,
        prompt_argv=tuple(map(str, decode_json(argv))),
        env_allow=frozenset(map(str, decode_json(allow))),
        env_secret=frozenset(map(str, decode_json(secret))),
        readable=tuple(map(str, decode_json(readable))),
        network=network,
        memory_mb=memory_mb,
        disk_mb=disk_mb,
        max_duration_s=max_duration_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedAttempt:
    """What an attempt needs."""

    driver: Driver
    brief: AttemptBrief  # of the driver
    verify: AttemptBrief | None = None  # of the command that decides on success
    workspace: WorkspaceAttempt | None = None


def prepare(*, claim: Claim, spec: SortieSpec, type_settings: TypeSettings, folder: Path) -> PreparedAttempt:
    """Read what the attempt needs from the database, and create its scratch folder.

    Raises errors.Invalid if the plan requires something that this agent type or host does not allow.
    """
    attempt_context = context.read(claim=claim, spec=spec)
    scope = context.scope(claim=claim, spec=spec, context=attempt_context)
    if spec.driver != "scripted":
        type_settings = refresh(type_settings)
        scratch.make(folder)
        if spec.outputs:
            scratch.make(scratch.outbox(claim.marker))
    workspace = None
    if attempt_context.has_workspace and spec.workspace:
        workspace = _workspace(claim=claim, spec=spec, attempt_context=attempt_context)
        attempt_context = replace(attempt_context, folder=str(workspace.copy.path))
    shared = _shared_brief(
        claim=claim, spec=spec, type_settings=type_settings, folder=folder, attempt_context=attempt_context, scope=scope
    )
    if workspace is not None:
        shared = workspace.use_brief(shared)
    verify = None
    if spec.verify is not None:  # without `resume`: FLEET_RESUME still has what the workload wrote there
        verify = _with_command(replace(shared, resume=None), spec.verify, scope)
    match spec.driver:
        case "command":
            brief = _with_command(shared, spec.run, scope)
        case "python":
            brief = replace(shared, call=spec.call or "")
        case "prompt":
            if not type_settings.prompt_argv:
                raise errors.Invalid(
                    f"Agent type {type_settings.agent_type!r} takes no prompts.",
                    hint=f"Set the command that reads them, then retry: {_set_prompt_command(type_settings.agent_type)}",
                )
            prompt = templates.render_text(text=spec.prompt or "", scope=scope)
            brief = replace(shared, argv=type_settings.prompt_argv, stdin=prompt)
        case _:
            brief = shared
    driver = drivers.get("command" if spec.driver == "prompt" else spec.driver)
    return PreparedAttempt(driver=driver, brief=brief, verify=verify, workspace=workspace)


def _workspace(*, claim: Claim, spec: SortieSpec, attempt_context: AttemptContext) -> WorkspaceAttempt:
    changes = Change.objects.filter(sortie_id=claim.id)
    change = changes.filter(state__in=Change.UNMERGED).order_by("-attempt").first()
    workspace = Workspace.objects.get(mission_id=claim.mission)
    moving.complete(workspace)
    uncommitted = claim.attempt > 1 and not changes.filter(attempt=claim.attempt - 1).exists()
    return WorkspaceAttempt(
        claim=claim,
        spec=spec,
        workspace=workspace,
        mission_name=attempt_context.mission,
        change=change,
        conflict=conflicts.newest(claim.id) if change is not None else None,
        leftover=claim.attempt - 1 if uncommitted else 0,
        patch=Patch.objects.filter(sortie=claim.id).first(),
        saved=SavedWork.objects.filter(sortie=claim.id).first(),
    )


def _shared_brief(
    *,
    claim: Claim,
    spec: SortieSpec,
    type_settings: TypeSettings,
    folder: Path,
    attempt_context: AttemptContext,
    scope: templates.ReferenceScope,
) -> AttemptBrief:
    """The part of the brief that `run` and `verify` share."""
    if attempt_context.folder and not (attempt_context.has_workspace and spec.workspace):
        folders.check_folder(attempt_context.folder)
    # Opened without following links (agents/confinement/bubblewrap.py), because earlier workloads may have left some.
    readable = (*map(Path, type_settings.readable), *map(Path, attempt_context.readable))
    api = "" if spec.driver == "scripted" else services.api_url()
    return AttemptBrief(
        marker=claim.marker,
        try_number=claim.tries + 1,
        fleet=settings.FLEET_HOME.id,
        api=api,
        token=attempt_tokens.issue(sortie=claim.id, attempt=claim.attempt) if api else "",
        arguments=render_values(spec.arguments, scope),
        needs=attempt_context.results,
        need_states=attempt_context.states,
        inputs=attempt_context.inputs,
        resume=attempt_context.resume,
        env={
            **render_variables(spec.env, scope),
            "FLEET_MISSION": ids.encode(ids.MISSION, claim.mission),
            "FLEET_SORTIE": claim.key,
        },
        env_allow=type_settings.inherited,
        secret_env=spec.secret_env | type_settings.env_secret,
        cwd=folders.cwd(
            plan_cwd=None if spec.cwd is None else templates.render_text(text=spec.cwd, scope=scope),
            folder=attempt_context.folder,
            scratch=folder,
            allowed=readable,
        ),
        scratch=folder,
        confined=settings.FLEET_SANDBOX,
        writable=(Path(attempt_context.folder),) if attempt_context.folder else (),
        readable=readable,
        hidden=hidden_folders.paths(),
        network=type_settings.network,
        outputs=spec.outputs,
        outbox=scratch.outbox(claim.marker) if spec.outputs else None,
        limits=_limits(spec=spec, type_settings=type_settings),
    )


def _limits(*, spec: SortieSpec, type_settings: TypeSettings) -> Limits:
    return Limits(
        timeout_s=spec.timeout_s or settings.FLEET_TIMEOUT_S,
        max_duration_s=type_settings.max_duration_s or None,
        silence_s=spec.silence_s or (settings.FLEET_PROMPT_SILENCE_S if spec.driver == "prompt" else None),
        grace_s=settings.FLEET_GRACE_S,
        linger_s=settings.FLEET_LINGER_S,
        result_bytes=settings.FLEET_RESULT_BYTES,
        added_bytes=settings.FLEET_ADDED_BYTES,
        memory_bytes=type_settings.memory_mb * MB or MEMORY_BYTES,
        disk_bytes=type_settings.disk_mb * MB or DISK_BYTES,
        tmp_bytes=TMP_BYTES,
        output_bytes=settings.FLEET_ARTIFACT_BYTES,
        processes=PROCESSES,
        open_files=OPEN_FILES,
        reserve_bytes=RESERVE_BYTES,
    )


def _with_command(
    brief: AttemptBrief, run: str | tuple[str, ...] | None, scope: templates.ReferenceScope
) -> AttemptBrief:
    if isinstance(run, tuple):
        return replace(brief, argv=tuple(templates.render_text(text=word, scope=scope) for word in run))
    return replace(brief, shell=run or "")


def inheritable(names: frozenset[str]) -> frozenset[str]:
    """These names without the fleet's own variables, which contain credentials: no agent type may pass them on."""
    return frozenset(name for name in names if not name.startswith("FLEET_") and name not in SECRETS)


def redactor_for_external_agent(*, claim: Claim, spec: SortieSpec, agent_type: str, token: str) -> Redactor:
    """A redactor that masks the secrets of an external agent's attempt in what the agent sends over the API.

    Of inherited variables it knows only the values that this process has.
    """
    type_settings = refresh(TypeSettings(agent_type=agent_type))
    env: dict[str, str] = {}
    if spec.secret_env:
        attempt_context = context.read(claim=claim, spec=spec)
        env = render_variables(spec.env, context.scope(claim=claim, spec=spec, context=attempt_context))
    return AttemptBrief(
        marker=claim.marker,
        scratch=Path(),
        token=token,
        env=env,
        env_allow=type_settings.inherited,
        secret_env=spec.secret_env | type_settings.env_secret,
    ).redactor()


def _set_prompt_command(agent_type: str) -> str:
    return invocation.command("fleet_agents", "type", "set", agent_type, "--prompt-argv", '["claude", "-p"]')
