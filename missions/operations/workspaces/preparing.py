"""The workspace of a new mission: which repository and base, and whether the caller may use them."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q

from agents.models import AgentType, Node
from fleet import errors, ids
from missions import folders
from missions.models import Conflict, Mission, Sortie, Workspace
from missions.plan import Plan, SortieSpec, predict, templates
from missions.workspaces import conflicts
from missions.workspaces.repositories import git, mirrors, sources, targets

DEFAULT_FOLDER = "fleet"  # of branches without a name
# In addresses: servers, and curl, may resolve these to a path outside the one that the address begins with.
_AMBIGUOUS = re.compile(r"(?:[/:]|%2f)(?:\.|%2e){1,2}(?:/|%2f|$)|//.*//|\\|%5c|[?#]", re.IGNORECASE)

# What git reports if a server does not have a commit, or does not let anyone fetch it by its id.
_NO_COMMIT = re.compile(r"not our ref|unadvertised object|couldn't find remote ref|bad object|no such remote ref", re.I)


def prepare(
    *,
    plan: Plan,
    inputs: Mapping[str, Any],
    folder: str,
    by: User | None,
    operator: bool,
    template: bool,
    own_folder: bool = False,
) -> Workspace | None:
    """The workspace that the plan asks for, without its mission; None if it asks for none.

    `own_folder`: `folder` is that of the template, not one that the client chose.

    Raises Invalid if the repository or its base does not exist, if the caller may not use it or its branch, or if no
    agent could merge the work; Unavailable if the repository's server does not answer.
    """
    spec = plan.workspace
    if spec is None:
        return None
    repository = sources.locate(_text(spec.repository, inputs), folder=folder)
    trusted = operator or folders.written_by_operator(
        os.path.expanduser(spec.repository),
        template=template,
        own_folder=own_folder or sources.is_address(spec.repository),
    )
    if not trusted:
        repository = _allowed(repository)
    if not operator and not template:
        _require_own_branch(repository, spec.branch, by)
    _require_compatible_branch(repository, spec.branch)
    _require_agents(plan.sorties)
    _require_one_host()
    base, commit = sources.resolve_base(repository, spec.base)
    return Workspace(
        repository=repository,
        base=base,
        base_commit=commit,
        branch=spec.branch,
        setup=_command(spec.setup, inputs),
        verify=_command(spec.verify, inputs),
        conflicts=spec.conflicts,
        reworks=spec.reworks,
    )


def for_import(
    *, repository: str, base_commit: str, specs: Sequence[SortieSpec], folder: str, operator: bool
) -> tuple[str, Path]:
    """The repository of an imported mission, and its mirror with the commit that the mission started from.

    The rules are those of a launch. Raises Invalid or Unavailable as `prepare` does.
    """
    git.require()
    if not repository:
        raise errors.Invalid(
            "The mission has a workspace, and the file does not decide which repository it uses here.",
            hint="Name the repository with --repository.",
            over_http="Send `repository`.",
            pointer="/repository",
        )
    repository = sources.locate(repository, folder=folder)
    if not operator:
        repository = _allowed(repository)
    _require_agents(specs)
    _require_one_host()
    try:
        if not sources.is_address(repository):
            sources.resolve_base(repository, base_commit)
        return repository, mirrors.ensure(repository, commit=base_commit)
    except git.GitError as error:
        if not _NO_COMMIT.search(error.text):
            raise errors.Unavailable(f"The repository {repository} cannot be read: {error.text[-300:]}") from error
        raise _base_missing(repository, base_commit) from error
    except errors.Invalid as error:
        if error.pointer != "/plan/workspace/base":
            raise
        raise _base_missing(repository, base_commit) from error


def _base_missing(repository: str, base_commit: str) -> errors.Invalid:
    return errors.Invalid(
        f"{repository} does not have the commit {base_commit}, from which the mission started.",
        hint="Fetch that commit into it, or name the repository that the mission comes from.",
        pointer="/repository",
    )


def default_branch(mission: UUID) -> str:
    """The branch of a mission whose plan names none."""
    return f"{DEFAULT_FOLDER}/{ids.encode(ids.MISSION, mission)}"


def check(*, plan: Plan, inputs: Mapping[str, Any], folder: str) -> None:
    """Raise Invalid if the repository of a plan is on this host and does not exist, or has no such base."""
    if plan.workspace is None:
        return
    repository = sources.locate(_text(plan.workspace.repository, inputs), folder=folder)
    if not sources.is_address(repository):
        sources.resolve_base(repository, plan.workspace.base)


def save(*, workspace: Workspace, mission: Mission) -> None:
    """Store the workspace with its mission. Its branch gets a name if the plan does not name one."""
    workspace.mission = mission
    workspace.branch = workspace.branch or default_branch(mission.id)
    workspace.save(force_insert=True)


def record_predicted_conflicts(*, mission: UUID, specs: Sequence[SortieSpec]) -> None:
    """Store the predicted conflicts of a new mission: of sorties that reserve the same files in no specified order."""
    pairs = predict(specs)
    ids_by_key = dict(
        Sortie.objects.filter(mission=mission, key__in=[pair.second.key for pair in pairs]).values_list("key", "id")
    )
    for key, group in itertools.groupby(pairs, key=lambda pair: pair.second.key):
        conflicting = list(group)
        conflicts.record(
            sortie=ids_by_key[key],
            mission=mission,
            attempt=None,
            kind=Conflict.Kind.PREDICTED,
            outcome=Conflict.Outcome.ORDERED,
            others=[pair.first.key for pair in conflicting],
            files=list(dict.fromkeys(pair.pattern for pair in conflicting)),
        )


def _allowed(repository: str) -> str:
    """The repository, if launches over the API may use it; a path without symbolic links.

    It must be below one of FLEET_REPOSITORY_ROOTS (folders, or prefixes of addresses), and not below FLEET_FOLDERS,
    where missions could write to it: its configuration could lead git to any other repository. Raises Invalid
    otherwise.
    """
    is_address = sources.is_address(repository)
    if not is_address:
        repository = str(Path(repository).resolve())  # a symbolic link could be replaced after the check
    if not is_address and any(Path(repository).is_relative_to(Path(top).resolve()) for top in settings.FLEET_FOLDERS):
        raise errors.Invalid(
            f"The repository {repository} lies below FLEET_FOLDERS, so workloads of other missions can change its "
            "settings.",
            hint="Keep the repositories of workspaces outside FLEET_FOLDERS, or have the operator launch the mission.",
            pointer="/plan/workspace/repository",
        )
    for root in settings.FLEET_REPOSITORY_ROOTS:
        if is_address:
            allowed = repository.startswith(root.rstrip("/") + "/") and not _AMBIGUOUS.search(repository)
        else:
            path, folder = Path(repository), Path(root).resolve()
            allowed = path != folder and path.is_relative_to(folder)
        if allowed:
            return repository
    raise errors.Invalid(
        f"Launches over the API may not use the repository {repository}.",
        hint="Choose one below FLEET_REPOSITORY_ROOTS, launch a template, or have the operator launch the mission.",
        pointer="/plan/workspace/repository",
    )


def _require_own_branch(repository: str, branch: str, by: User | None) -> None:
    """Raise Invalid if missions of other users work on this branch: this one could change and block their work."""
    missions_on_branch = Workspace.objects.filter(repository=repository, branch=branch)
    if branch and missions_on_branch.exclude(mission__created_by=by).exists():
        raise errors.Invalid(
            f"The branch {branch} belongs to another user's mission.",
            hint="Choose another name, or leave it out: each mission then gets a branch of its own.",
            pointer="/plan/workspace/branch",
        )


def _require_compatible_branch(repository: str, branch: str) -> None:
    """Raise Invalid if git, which stores branches as files, would need a folder with the name of a branch."""
    if not branch:
        return
    targets.require_branch_name(branch, pointer="/plan/workspace/branch")
    parts = branch.split("/")
    parents = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    others = Workspace.objects.filter(repository=repository, discarded_at=None)
    if branch == DEFAULT_FOLDER or others.filter(Q(branch__startswith=f"{branch}/") | Q(branch__in=parents)).exists():
        raise errors.Invalid(
            f"Git cannot store the branch {branch} next to those of other missions, because one name would be a folder of "
            "the other.",
            hint="Choose another name, or leave it out: each mission then gets a branch of its own.",
            pointer="/plan/workspace/branch",
        )


def _require_agents(specs: Sequence[SortieSpec]) -> None:
    names = {sortie.agent_type for sortie in specs if sortie.workspace}
    external = sorted(AgentType.objects.filter(name__in=names, external=True).values_list("name", flat=True))
    if external:
        raise errors.Invalid(
            f"The agent type {external[0]} has external agents only, so nothing here could merge its work.",
            hint="Use a type with agents of the fleet, or set workspace: false for its sorties.",
        )


def _require_one_host() -> None:
    boots = dict(Node.objects.filter(up=True).values_list("boot", "name"))  # one host has one boot
    hosts = sorted(boots.values())
    if len(hosts) > 1 and not settings.FLEET_REPOSITORIES_SHARED:
        raise errors.Invalid(
            f"Nodes run on {len(hosts)} hosts ({', '.join(hosts[:3])}), and each would have a repository of its own.",
            hint="Put the fleet's folder (FLEET_HOME) on a disk that all hosts share and set FLEET_REPOSITORIES_SHARED=on, "
            "or stop the nodes of the other hosts.",
        )


def _text(text: str, inputs: Mapping[str, Any]) -> str:
    return templates.render_text(text=text, scope=templates.ReferenceScope(inputs=inputs))


def _command(command: str | tuple[str, ...] | None, inputs: Mapping[str, Any]) -> Any:
    if isinstance(command, tuple):
        return [_text(word, inputs) for word in command]
    return command
