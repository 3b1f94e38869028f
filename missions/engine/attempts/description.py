"""Describe the work of an attempt to an external agent, with its templates filled in."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from missions.claims import Claim
from missions.engine.attempts import context
from missions.models import Workspace
from missions.plan import SortieSpec, templates
from missions.workspaces.repositories import mirrors


def describe(*, claim: Claim, spec: SortieSpec) -> dict[str, Any]:
    """The work as a JSON object: the sortie's keys of the plan format, with its templates rendered, and its context.

    Keys that the plan does not set are None or empty. `needs` contains the results, by the name of each need.
    """
    attempt_context = context.read(claim=claim, spec=spec)
    scope = context.scope(claim=claim, spec=spec, context=attempt_context)

    def command(value: str | tuple[str, ...] | None) -> Any:
        if isinstance(value, tuple):
            return [templates.render_text(text=word, scope=scope) for word in value]
        return value  # a shell's text has no references: SortieSpec

    return {
        "driver": spec.driver,
        "run": command(spec.run),
        "call": spec.call,
        "prompt": None if spec.prompt is None else templates.render_text(text=spec.prompt, scope=scope),
        "with": context.render_values(spec.arguments, scope),
        "verify": command(spec.verify),
        "env": context.render_variables(spec.env, scope),
        "secret_env": sorted(spec.secret_env),
        "needs": dict(attempt_context.results),
        "need_states": dict(attempt_context.states),
        "inputs": dict(attempt_context.inputs),
        "resume": attempt_context.resume,
        "matrix": dict(spec.matrix),
        "outputs": list(spec.outputs),
        "timeout_s": spec.timeout_s or settings.FLEET_TIMEOUT_S,
        "mission": attempt_context.mission,
        "workspace": _workspace(claim) if attempt_context.has_workspace and spec.workspace else None,
    }


def _workspace(claim: Claim) -> dict[str, str]:
    """Where to do the work. The agent sends a patch against `base`, the newest commit of the branch."""
    workspace = Workspace.objects.get(mission_id=claim.mission)
    tip = mirrors.find_tip(mirrors.of(workspace.repository), workspace.branch)
    return {
        "repository": workspace.repository,
        "branch": workspace.branch,
        "base": tip or workspace.base_commit,
    }
