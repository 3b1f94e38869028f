"""Which folders of a host a mission's sorties may work in and read. The rules in words: docs/security.md."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings

from agents.drivers import sandbox
from fleet import errors
from missions.plan import Plan, templates

BELOW = "Name a folder below one of FLEET_FOLDERS, or have the operator launch it."


def folder_for_api(named: str) -> str:
    """The folder that a launch over the API names; Invalid unless it lies below FLEET_FOLDERS."""
    if named and not _may_be_named(path := _normal(named)):
        raise errors.Invalid(f"Launches over the API may not use the folder {path}.", hint=BELOW, pointer="/folder")
    return str(_normal(named)) if named else ""


def check_folder(folder: str) -> None:
    """Invalid where no mission may have this folder."""
    try:
        sandbox.check_writable(Path(folder), hidden=[settings.FLEET_HOME.root])
    except sandbox.Refused as refused:
        raise errors.Invalid(str(refused)) from refused


def readable(*, plan: Plan, inputs: Mapping[str, Any], folder: str, operator: bool, template: bool) -> list[str]:
    """The paths that the plan's sorties may read. An operator's launch may name any, and so may what operators wrote into
    a template; what comes over the API otherwise must lie below FLEET_FOLDERS. Invalid where a path may not be named."""
    paths = []
    for text in plan.readable:
        filled = templates.as_text(templates.render(value=text, scope=templates.Scope(inputs=inputs)))
        path = _normal(os.path.join(folder, os.path.expanduser(filled) if operator else filled))
        if not path.is_absolute():
            raise errors.Invalid(
                f"`readable` names {filled!r}, which is relative, and the mission has no folder to start from.",
                hint="Write an absolute path, or launch the mission with a folder.",
            )
        written = template and not list(templates.references(text))
        if not operator and not written and not _may_be_named(path):
            raise errors.Invalid(f"Launches over the API may not read {path} (`readable`).", hint=BELOW)
        # Only the operator's words may name a link, which is followed now and not again: work may change it meanwhile.
        paths.append(str(path.resolve() if operator or written else path))
    return paths


def cwd(*, named: str | None, folder: str, scratch: Path, allowed: Sequence[Path]) -> Path | None:
    """Where a sortie starts: `cwd` from the mission's folder, that folder itself, or None, the scratch folder. Invalid where
    it lies in none of these nor in one that is `allowed`."""
    if named is None:
        return Path(folder) if folder else None
    if not os.path.isabs(named) and not folder:
        raise errors.Invalid(
            f"cwd {named!r} is relative, and the mission has no folder to start from.",
            hint="Write an absolute path, or launch the mission with a folder.",
        )
    path = _normal(os.path.join(folder, named))
    if not any(
        path.is_relative_to(place)
        for place in (*([Path(folder)] if folder else ()), scratch, Path(sandbox.TMP), *allowed)
    ):
        raise errors.Invalid(
            f"cwd {str(path)!r} lies outside of what the sortie may use.",
            hint="Choose one below the mission's folder, or name it under `readable` of the plan or the agent type.",
        )
    return path


def _may_be_named(path: Path) -> bool:
    """No link is followed: where a part of the path is one, the sandbox refuses it later."""
    return any(path != Path(top) and path.is_relative_to(top) for top in settings.FLEET_FOLDERS)


def _normal(path: str) -> Path:
    return Path(os.path.normpath(path))
