"""Which folders of a host a mission's sorties may work in and read. docs/security.md explains the rules."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings

from agents.confinement import host_paths
from agents.models import AgentType
from fleet import errors
from missions import hidden_folders
from missions.plan import Plan, SortieSpec, templates


def folder_for_api(folder: str) -> str:
    """The normalised folder of a launch over the API. Raises Invalid unless it is empty or below FLEET_FOLDERS."""
    if folder and not _is_allowed(path := _normalise(folder)):
        raise errors.Invalid(
            f"Launches over the API may not use the folder {path}.", hint=_folders_hint(), pointer="/folder"
        )
    return str(_normalise(folder)) if folder else ""


def check_folder(folder: str) -> None:
    """Raise Invalid if no mission may use this folder."""
    try:
        host_paths.check_writable(Path(folder), hidden=hidden_folders.paths())
    except host_paths.PathRefused as error:
        raise errors.Invalid(str(error)) from error


def check_prompts(*, specs: Iterable[SortieSpec], folder: str, workspace: bool = False) -> None:
    """Raise Invalid if a prompt would have only its scratch folder to work in, which is deleted with all its changes.

    Prompts for external agents are exempt, because those work elsewhere, and so are prompts with `outputs`, and those
    that get a copy of the repository because the mission has a `workspace`.
    """
    if folder:
        return
    prompts = [
        spec for spec in specs if spec.driver == "prompt" and not spec.outputs and not (workspace and spec.workspace)
    ]
    types = {spec.agent_type for spec in prompts}
    internal_types = (
        set(AgentType.objects.filter(name__in=types, external=False).values_list("name", flat=True)) if types else set()
    )
    if keys := [spec.key for spec in prompts if spec.agent_type in internal_types]:
        raise errors.Invalid(
            f"The sortie {keys[0]} is a prompt without a folder: every file that it changes would be deleted when it ends.",
            hint="Launch it with a folder, give its plan a `workspace`, or name the files to keep under `outputs`.",
            over_http=f"{_folders_hint()} Or launch a template that has a folder, use a `workspace`, or name the files to "
            "keep under `outputs`.",
            pointer="/folder",
        )


def readable_paths(
    *,
    plan: Plan,
    inputs: Mapping[str, Any],
    folder: str,
    operator: bool,
    template: bool,
    own_folder: bool = False,
    attended: bool = True,
) -> list[str]:
    """The paths that the plan's sorties may read.

    An operator's launch may name any path, and so may the literal text of a template (`written_by_operator`). Raises
    Invalid for any other path that arrives over the API, unless it lies below FLEET_FOLDERS.

    Links are followed only if an operator launches the plan now (`attended`), and only here: a workload could have put
    a link in place of a path that was written earlier. Attempts open the paths without following any.
    """
    paths = []
    for text in plan.readable:
        name = templates.render_text(text=text, scope=templates.ReferenceScope(inputs=inputs))
        path = _normalise(os.path.join(folder, os.path.expanduser(name) if operator else name))
        if not path.is_absolute():
            raise errors.Invalid(
                f"`readable` names {name!r}, which is relative, and the mission has no folder to start from.",
                hint="Write an absolute path, or launch the mission with a folder.",
            )
        trusted = operator or written_by_operator(text, template=template, own_folder=own_folder)
        if not trusted and not _is_allowed(path):
            raise errors.Invalid(f"Launches over the API may not read {path} (`readable`).", hint=_folders_hint())
        paths.append(str(path.resolve() if operator and attended else path))
    return paths


def written_by_operator(text: str, *, template: bool, own_folder: bool) -> bool:
    """Whether the text of a template alone decides which path this is, and nothing that a client supplied.

    A client can decide through an input, or through the folder of the launch, from which relative paths start, unless
    that folder is the template's own (`own_folder`).
    """
    return template and not list(templates.references(text)) and (own_folder or os.path.isabs(text))


def links_of_template(plan: Plan, *, folder: str) -> dict[str, str]:
    """The paths under `readable` in a template's text that contain a symbolic link on this host, with their targets."""
    paths = [_normalise(os.path.join(folder, text)) for text in plan.readable if not list(templates.references(text))]
    return {str(path): target for path in paths if (target := os.path.realpath(path)) != str(path)}


def cwd(*, plan_cwd: str | None, folder: str, scratch: Path, allowed: Sequence[Path]) -> Path | None:
    """The folder in which a sortie starts: its `cwd`, relative to the mission's folder; by default that folder.

    `plan_cwd` is the sortie's `cwd`. None stands for the scratch folder. Raises Invalid if the `cwd` is outside
    the mission's folder, the scratch folder, the private /tmp and the `allowed` folders.
    """
    if plan_cwd is None:
        return Path(folder) if folder else None
    if not os.path.isabs(plan_cwd) and not folder:
        raise errors.Invalid(
            f"cwd {plan_cwd!r} is relative, and the mission has no folder to start from.",
            hint="Write an absolute path, or launch the mission with a folder.",
        )
    path = _normalise(os.path.join(folder, plan_cwd))
    if not any(
        path.is_relative_to(parent)
        for parent in (*([Path(folder)] if folder else ()), scratch, Path(host_paths.TMP), *allowed)
    ):
        raise errors.Invalid(
            f"cwd {str(path)!r} lies outside the folders that the sortie may use.",
            hint="Choose a folder below the mission's, or add it to `readable` of the plan or the agent type.",
        )
    return path


def _folders_hint() -> str:
    """Which folders a launch over the API may use."""
    if not settings.FLEET_FOLDERS:
        return "No folder is open to launches over the API: the operator must set FLEET_FOLDERS, or launch the mission."
    return (
        f"Choose a folder below {' or '.join(settings.FLEET_FOLDERS)} (FLEET_FOLDERS), or have the operator launch the "
        "mission."
    )


def _is_allowed(path: Path) -> bool:
    """Whether the path lies below FLEET_FOLDERS. Symbolic links are not followed: the sandbox refuses such paths."""
    return any(path != Path(top) and path.is_relative_to(top) for top in settings.FLEET_FOLDERS)


def _normalise(path: str) -> Path:
    return Path(os.path.normpath(path))
