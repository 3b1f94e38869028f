"""The commits of an imported file give no access to those of other missions in the same mirror."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import pytest

from fleet import errors
from missions.engine.process.runtime import Engine
from missions.models import Change, Conflict, Mission
from missions.operations.workspaces import diffs
from missions.workspaces.repositories import git
from tests.security.imports.imported_commits.hostile_commits import (
    assert_refused,
    bundle_of,
    commit_of,
    tree_of,
    with_tip,
)
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import archives
from tests.support.work.archives import OpenedExport
from tests.support.work.restoring import launch

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def secret(project: Repository, engine: Engine) -> Mission:
    """Another user's mission on the same repository, whose commit nobody else may read."""
    mission = launch(project, {"edit": {"run": "echo confidential > secret.txt"}})
    fleet.run_to_end(engine, mission)
    return mission


def ids_of(secret: Mission) -> tuple[str, str]:
    """The commit and the blob, which the attacker knows by their ids and cannot read."""
    branch = repository.branch(secret)
    return branch.tip, git.line("rev-parse", f"{branch.tip}:secret.txt", at=branch.mirror)


def base_of(opened: OpenedExport) -> str:
    found: list[str] = []
    opened.change_mission(lambda data: found.append(data["workspace"]["base_commit"]))
    return found[0]


def ordered(value: dict[str, Any]) -> dict[str, Any]:
    """With the names in the order of jsonb."""
    return dict(sorted(value.items(), key=lambda item: (len(item[0]), item[0])))


def test_an_id_is_not_enough_to_take_over_a_commit(
    project: Repository, attacker: Repository, secret: Mission, exported: bytes
) -> None:
    foreign, _ = ids_of(secret)
    bundle = bundle_of(attacker, foreign, objects=b"")
    assert_refused(with_tip(exported, foreign, bundle), project, "neither in it nor in the history")


def test_a_commit_cannot_follow_another_missions_commit(
    project: Repository, attacker: Repository, secret: Mission, exported: bytes
) -> None:
    foreign, _ = ids_of(secret)
    text = f"tree {attacker.git('rev-parse', 'HEAD^{tree}')}\nparent {foreign}\n"
    text += "author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nhostile\n"
    words = ("hash-object", "-w", "--stdin", "--literally", "-t", "commit")
    tip = git.line(*words, at=attacker.path, stdin=text.encode())
    bundle = bundle_of(attacker, tip, objects=f"{tip}\n".encode())
    assert_refused(with_tip(exported, tip, bundle), project, "neither in it nor in the history")


def test_a_tree_cannot_name_another_missions_file(
    project: Repository, attacker: Repository, secret: Mission, exported: bytes
) -> None:
    _, blob = ids_of(secret)
    tree = tree_of(attacker, ("100644", b"stolen.txt", blob))
    tip = commit_of(attacker, tree)
    bundle = bundle_of(attacker, tip, objects=f"{tip}\n{tree}\n".encode())
    assert_refused(with_tip(exported, tip, bundle), project, "neither in it nor in the history")


def test_a_delta_cannot_start_from_another_missions_file(
    project: Repository, attacker: Repository, secret: Mission, exported: bytes
) -> None:
    _, blob = ids_of(secret)
    tip = commit_of(attacker, "HEAD^{tree}")
    whole = bundle_of(attacker, tip, objects=f"{tip}\n".encode())
    # One more object: a delta that copies all 13 bytes of the other file.
    delta = zlib.compress(bytes([13, 13, 0x90, 13]))
    pack = whole[whole.index(b"PACK") : -20]
    pack = pack[:8] + (2).to_bytes(4) + pack[12:] + bytes([0x74]) + bytes.fromhex(blob) + delta
    bundle = whole[: whole.index(b"PACK")] + pack + hashlib.sha1(pack, usedforsecurity=False).digest()
    assert_refused(with_tip(exported, tip, bundle), project, "git does not accept its bundle")


def test_changes_and_conflicts_cannot_show_another_missions_commit(
    project: Repository, attacker: Repository, secret: Mission, exported: bytes
) -> None:
    foreign, _ = ids_of(secret)
    opened = OpenedExport.of(exported)
    conflict = {
        "kind": "merge", "others": [], "files": [], "onto": foreign, "tree": foreign, "text": "",
        "outcome": "resolved", "by": "root", "closed": True,
    }  # fmt: skip

    def change(data: dict[str, Any]) -> None:
        data["workspace"]["changes"][0].update(landed=foreign, onto=foreign, commit=foreign, base=foreign)
        data["workspace"]["conflicts"] = [ordered(conflict)]

    opened.change("edit", change)
    opened.change_kept(
        "edit", lambda data: data["workspace"].update(conflicts=[{"created_at": None, "closed_at": None}])
    )
    result = archives.import_bytes(opened.reseal(), repository=str(project.path), folder="/srv").mission
    row = Change.objects.get(sortie__mission=result)
    assert (row.landed, row.onto, row.commit, row.base) == ("", "", "", "")
    stored = Conflict.objects.get(sortie__mission=result)
    assert (stored.onto, stored.tree, stored.by) == ("", "", "")
    with pytest.raises(errors.NotFound):
        diffs.of_sortie(result.sorties.get())


def test_unmerged_work_cannot_be_another_missions_commit(
    project: Repository, attacker: Repository, secret: Mission, exported: bytes
) -> None:
    foreign, _ = ids_of(secret)
    opened = OpenedExport.of(exported)
    base = base_of(opened)
    opened.change(
        "edit",
        lambda data: data["workspace"]["changes"][0].update(
            state="committed", landed="", onto="", commit=foreign, base=base
        ),
    )
    assert_refused(opened.reseal(), project, "does not have exactly the commits")
