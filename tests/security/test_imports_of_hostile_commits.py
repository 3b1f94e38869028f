"""The commits of an imported file are checked before anything is written, and give access to nothing else of the mirror."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from checkpoints import operations
from fleet import errors
from missions.engine.process.runtime import Engine
from missions.models import Change, Conflict, Mission
from missions.operations.workspaces import diffs
from missions.workspaces import bundles, copies, git, repositories
from tests.security.tampered_exports import stored_state
from tests.support import archives, fleet, repository
from tests.support.archives import OpenedExport
from tests.support.repository import Repository
from tests.support.restoring import launch

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

MB = 1_000_000
ONE = {"edit": {"run": "echo 1 > one.txt"}}


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {"app.py": "one\ntwo\n", "old.txt": "old\n"})


@pytest.fixture
def attacker(project: Repository, tmp_path: Path) -> Repository:
    """A clone of the repository in which an attacker prepares commits."""
    project.git("clone", "--quiet", str(project.path), str(tmp_path / "attacker"))
    return Repository(tmp_path / "attacker")


@pytest.fixture
def exported(project: Repository, engine: Engine) -> bytes:
    """An exported mission that has landed one commit."""
    mission = launch(project, ONE)
    fleet.run_to_end(engine, mission)
    return archives.export(operations.capture(missions=[mission.id]))


def base_of(opened: OpenedExport) -> str:
    found: list[str] = []
    opened.change_mission(lambda data: found.append(data["workspace"]["base_commit"]))
    return found[0]


def with_tip(data: bytes, tip: str, bundle: bytes) -> bytes:
    """The file with another tip of the branch, and other commits."""
    opened = OpenedExport.of(data)
    opened.change_mission(lambda state: state["workspace"].update(tip=tip))
    opened.commits = bundle
    return opened.reseal()


def bundle_of(attacker: Repository, *commits: str, objects: bytes | None = None) -> bytes:
    """A bundle of these commits of the attacker, or one with these objects only."""
    base = attacker.git("rev-parse", "origin/main")
    folder = attacker.path / ".git"
    if objects is not None:
        return bundles.header(commits, base=base) + git.run("pack-objects", "--stdout", "-q", at=folder, stdin=objects)
    written: list[bytes] = []
    bundles.write(folder, commits=commits, base=base, out=type("Out", (), {"write": staticmethod(written.append)})())
    return b"".join(written)


def commit_of(attacker: Repository, tree: str, *parents: str) -> str:
    options = [option for parent in parents or ("origin/main",) for option in ("-p", parent)]
    return attacker.git("commit-tree", tree, *options, "-m", "hostile")


def tree_of(attacker: Repository, *entries: tuple[str, bytes, str]) -> str:
    """A tree with these entries (mode, name, object), however harmful."""
    data = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(object) for mode, name, object in entries)
    words = ("hash-object", "-w", "--stdin", "--literally", "-t", "tree")
    return git.line(*words, at=attacker.path, stdin=data)


def blob_of(attacker: Repository, data: bytes) -> str:
    return git.line("hash-object", "-w", "--stdin", at=attacker.path, stdin=data)


def mirror_state(project: Repository) -> tuple[object, ...]:
    """The refs and the objects of the mirror, and the folders of incoming commits."""
    mirror = repositories.mirror(str(project.path))
    refs = git.run("for-each-ref", at=mirror)
    objects = git.run("cat-file", "--batch-all-objects", "--batch-check", at=mirror)
    return refs, objects, sorted(settings.FLEET_HOME.commits.glob(f"{copies.READER}*"))


def assert_refused(data: bytes, project: Repository, reason: str, **options: Any) -> None:
    before = stored_state(), mirror_state(project)
    with pytest.raises(errors.FleetError, match=reason):
        archives.import_bytes(data, repository=str(project.path), **{"folder": str(project.path), **options})
    assert (stored_state(), mirror_state(project)) == before


# ── Rights and rules ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_workspace_needs_plan_execute(project: Repository, exported: bytes) -> None:
    assert_refused(exported, project, "plan.execute", by=User.objects.create_user("ann"), can_execute=False, folder="")


def test_a_workspace_of_prompts_needs_plan_execute_too(project: Repository, exported: bytes) -> None:
    opened = OpenedExport.of(exported)

    def prompt(data: dict[str, Any]) -> None:
        del data["spec"]["run"]
        data["spec"].update(driver="prompt", prompt="Hello")

    opened.change("edit", prompt)
    ann = User.objects.create_user("ann")
    assert_refused(opened.reseal(), project, "plan.execute", by=ann, can_execute=False, folder="")


def test_the_importer_names_the_repository(project: Repository, exported: bytes) -> None:
    with pytest.raises(errors.Invalid, match="Name the repository with --repository"):
        archives.import_bytes(exported)
    mission = fleet.launch({"one": {"run": "true"}})
    data = archives.export(operations.capture(missions=[mission.id]))
    with pytest.raises(errors.Invalid, match="no workspace"):
        archives.import_bytes(data, repository=str(project.path))


def test_the_repository_follows_the_rules_of_a_launch(
    project: Repository, exported: bytes, settings: Any, tmp_path: Path
) -> None:
    ann = User.objects.create_user("ann")
    settings.FLEET_FOLDERS = (str(tmp_path / "folders"),)
    settings.FLEET_REPOSITORY_ROOTS = [str(tmp_path / "other"), "https://git.example.org/team"]
    for name in (str(project.path), "https://git.example.org/other/app.git", "ext::sh -c id", "file:///etc", "-x"):
        before = stored_state()
        with pytest.raises(errors.Invalid):
            archives.import_bytes(exported, by=ann, repository=name)
        assert stored_state() == before
    settings.FLEET_REPOSITORY_ROOTS = [str(tmp_path)]
    assert archives.import_bytes(exported, by=ann, repository=str(project.path)).mission.created_by == ann


def test_the_repository_must_have_the_base(project: Repository, exported: bytes, tmp_path: Path) -> None:
    other = repository.create(tmp_path / "other", {"app.py": "another history\n"})
    before = stored_state()
    with pytest.raises(errors.Invalid, match="does not have the commit"):
        archives.import_bytes(exported, repository=str(other.path))
    with pytest.raises(errors.Invalid, match="no git repository"):
        archives.import_bytes(exported, repository=str(tmp_path / "nothing"))
    assert stored_state() == before
    assert not repositories.mirror(str(other.path)).exists()


# ── The bundle ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        lambda bundle: b"not a bundle",
        lambda bundle: bundle.replace(b"# v2 git bundle\n", b"# v3 git bundle\n@filter=blob:none\n"),
        lambda bundle: bundle.replace(b"\n\nPACK", b"\n" + b"0" * 40 + b" refs/heads/main\n\nPACK"),
        lambda bundle: bundle.replace(b"refs/fleet/commits/", b"refs/heads/../../"),
        lambda bundle: bundle.replace(b" base\n", b" base\n-" + b"1" * 40 + b" other\n"),
    ],
    ids=["bytes", "filter", "another ref", "path", "another base"],
)
def test_a_bundle_has_exactly_the_lines_that_a_fleet_writes(
    project: Repository, exported: bytes, change: Callable[[bytes], bytes]
) -> None:
    opened = OpenedExport.of(exported)
    changed = change(opened.commits)
    assert changed != opened.commits
    opened.commits = changed
    assert_refused(opened.reseal(), project, "does not have exactly the commits")


def test_the_commits_are_required_and_allowed_only_where_they_are_named(project: Repository, exported: bytes) -> None:
    opened = OpenedExport.of(exported)
    bundle, opened.commits = opened.commits, b""
    assert_refused(opened.reseal(), project, "missing or out of order|incomplete")
    opened = OpenedExport.of(archives.export(operations.capture(missions=[launch(project, ONE).id])))
    opened.commits = bundle
    assert_refused(opened.reseal(), project, "unexpected member")


def test_damage_is_found(project: Repository, exported: bytes) -> None:
    opened = OpenedExport.of(exported)
    bundle = opened.commits
    opened.commits = bundle[:-30] + bytes(30)
    assert_refused(opened.reseal(), project, "git does not accept its bundle")
    opened.commits = bundle[: bundle.index(b"PACK")]
    assert_refused(opened.reseal(), project, "no pack")
    opened.commits = bundle + b"more"
    assert_refused(opened.reseal(), project, "git does not accept its bundle")
    place = exported.index(bundle) + len(bundle) - 25
    assert_refused(
        exported[:place] + bytes([exported[place] ^ 1]) + exported[place + 1 :], project, "SHA-256 of commits"
    )


def test_a_commit_must_be_in_the_file(project: Repository, attacker: Repository, exported: bytes) -> None:
    tip = commit_of(attacker, "HEAD^{tree}")
    other = commit_of(attacker, tree_of(attacker, ("100644", b"x", blob_of(attacker, b"x"))))
    objects = bundle_of(attacker, other)
    bundle = bundles.header([tip], base=attacker.git("rev-parse", "HEAD")) + objects[objects.index(b"PACK") :]
    assert_refused(with_tip(exported, tip, bundle), project, "incomplete|neither in it")


def test_missing_objects_are_found(project: Repository, attacker: Repository, exported: bytes) -> None:
    tree = tree_of(attacker, ("100644", b"new.txt", blob_of(attacker, b"new")))
    tip = commit_of(attacker, tree)
    bundle = bundle_of(attacker, tip, objects=f"{tip}\n{tree}\n".encode())
    assert_refused(with_tip(exported, tip, bundle), project, "git does not accept its bundle|incomplete")


def test_objects_of_the_bases_history_need_not_be_in_the_file(
    project: Repository, attacker: Repository, engine: Engine
) -> None:
    old = project.git("rev-parse", "HEAD:old.txt")
    project.commit({"old.txt": "newer\n"})
    attacker.git("fetch", "--quiet")
    mission = launch(project, ONE)
    fleet.run_to_end(engine, mission)
    data = archives.export(operations.capture(missions=[mission.id]))
    tree = tree_of(attacker, ("100644", b"restored.txt", old))
    tip = commit_of(attacker, tree)
    bundle = bundle_of(attacker, tip, objects=f"{tip}\n{tree}\n".encode())
    result = archives.import_bytes(with_tip(data, tip, bundle), repository=str(project.path), folder="/srv")
    assert repository.branch(result.mission).read("restored.txt") == "old\n"


@pytest.mark.parametrize(
    ("mode", "name"),
    [("40000", b".git"), ("100644", b".."), ("40000", b".GIT"), ("100644", b"a/b"), ("120000", b".gitmodules")],
)
def test_harmful_names_are_refused(
    project: Repository, attacker: Repository, exported: bytes, mode: str, name: bytes
) -> None:
    blob = blob_of(attacker, b"[core]\n\tsshCommand = id\n")
    inner = tree_of(attacker, ("100644", b"config", blob))
    tip = commit_of(attacker, tree_of(attacker, (mode, name, inner if mode == "40000" else blob)))
    bundle = bundle_of(attacker, tip)
    assert_refused(with_tip(exported, tip, bundle), project, "git does not accept its bundle")


def test_sizes_are_limited(project: Repository, attacker: Repository, exported: bytes, settings: Any) -> None:
    blobs = [blob_of(attacker, bytes([number]) * 3 * MB) for number in range(4)]
    entries = [("100644", b"file%d" % number, blob) for number, blob in enumerate(blobs)]
    tip = commit_of(attacker, tree_of(attacker, *entries))
    data = with_tip(exported, tip, bundle_of(attacker, tip))
    assert len(data) < MB
    settings.FLEET_COMMIT_BYTES = 2 * MB
    assert_refused(data, project, "an object of 3,000,000 bytes; at most 2,000,000 are allowed")
    settings.FLEET_COMMIT_BYTES, settings.FLEET_IMPORT_FILE_BYTES = 4 * MB, 10 * MB
    assert_refused(data, project, "more than 10,000,000 bytes")


def test_a_few_objects_cannot_stand_for_countless_files(
    project: Repository, attacker: Repository, exported: bytes
) -> None:
    mode, object = "100644", blob_of(attacker, b"x")
    for _ in range(8):
        entries = [(mode, b"%02d" % number, object) for number in range(20)]
        mode, object = "40000", tree_of(attacker, *entries)
    tip = commit_of(attacker, object)
    assert_refused(with_tip(exported, tip, bundle_of(attacker, tip)), project, "too many files")


def test_a_path_cannot_be_arbitrarily_deep(project: Repository, attacker: Repository, exported: bytes) -> None:
    mode, object = "100644", blob_of(attacker, b"x")
    for _ in range(30):
        mode, object = "40000", tree_of(attacker, (mode, b"n" * 200, object))
    tip = commit_of(attacker, object)
    assert_refused(with_tip(exported, tip, bundle_of(attacker, tip)), project, "path")


def test_an_object_that_expands_is_refused(
    project: Repository, attacker: Repository, exported: bytes, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    with open(big, "wb") as file:
        file.truncate(60 * MB)
    tip = commit_of(attacker, tree_of(attacker, ("100644", b"big", attacker.git("hash-object", "-w", str(big)))))
    bundle = bundle_of(attacker, tip)
    assert len(bundle) < MB
    assert_refused(with_tip(exported, tip, bundle), project, "an object of 60,000,000 bytes")


def test_the_number_of_objects_is_limited(project: Repository, exported: bytes) -> None:
    opened = OpenedExport.of(exported)
    start = opened.commits.index(b"PACK")
    opened.commits = opened.commits[: start + 8] + b"\xff\xff\xff\xff" + opened.commits[start + 12 :]
    assert_refused(opened.reseal(), project, "4,294,967,295 objects; at most 2,000,000 are allowed")


# ── Other missions of the same mirror ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def secret(project: Repository, engine: Engine) -> Mission:
    """Another user's mission on the same repository, whose commit nobody else may read."""
    mission = launch(project, {"edit": {"run": "echo confidential > secret.txt"}})
    fleet.run_to_end(engine, mission)
    return mission


def secret_ids(secret: Mission, attacker: Repository) -> tuple[str, str]:
    """The commit and the blob, which the attacker knows by their ids and cannot read."""
    branch = repository.branch(secret)
    return branch.tip, git.line("rev-parse", f"{branch.tip}:secret.txt", at=branch.mirror)


def test_an_id_is_not_enough_to_take_over_a_commit(
    project: Repository, attacker: Repository, secret: Mission, exported: bytes
) -> None:
    foreign, _ = secret_ids(secret, attacker)
    bundle = bundle_of(attacker, foreign, objects=b"")
    assert_refused(with_tip(exported, foreign, bundle), project, "neither in it nor in the history")


def test_a_commit_cannot_follow_another_missions_commit(
    project: Repository, attacker: Repository, secret: Mission, exported: bytes
) -> None:
    foreign, _ = secret_ids(secret, attacker)
    text = f"tree {attacker.git('rev-parse', 'HEAD^{tree}')}\nparent {foreign}\n"
    text += "author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nhostile\n"
    words = ("hash-object", "-w", "--stdin", "--literally", "-t", "commit")
    tip = git.line(*words, at=attacker.path, stdin=text.encode())
    bundle = bundle_of(attacker, tip, objects=f"{tip}\n".encode())
    assert_refused(with_tip(exported, tip, bundle), project, "neither in it nor in the history")


def test_a_tree_cannot_name_another_missions_file(
    project: Repository, attacker: Repository, secret: Mission, exported: bytes
) -> None:
    _, blob = secret_ids(secret, attacker)
    tree = tree_of(attacker, ("100644", b"stolen.txt", blob))
    tip = commit_of(attacker, tree)
    bundle = bundle_of(attacker, tip, objects=f"{tip}\n{tree}\n".encode())
    assert_refused(with_tip(exported, tip, bundle), project, "neither in it nor in the history")


def test_a_delta_cannot_start_from_another_missions_file(
    project: Repository, attacker: Repository, secret: Mission, exported: bytes
) -> None:
    _, blob = secret_ids(secret, attacker)
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
    foreign, _ = secret_ids(secret, attacker)
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
    foreign, _ = secret_ids(secret, attacker)
    opened = OpenedExport.of(exported)
    base = base_of(opened)
    opened.change(
        "edit",
        lambda data: data["workspace"]["changes"][0].update(
            state="committed", landed="", onto="", commit=foreign, base=base
        ),
    )
    assert_refused(opened.reseal(), project, "does not have exactly the commits")


# ── The lines ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "values",
    [
        {"tip": "main"},
        {"tip": "0" * 39 + "\n"},
        {"base_commit": "0" * 64},
        {"base_commit": ""},
        {"conflicts": "x"},
        {"reworks": 1_000},
        {"verify": {"a": 1}},
        {"base": "a\nb"},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_malformed_workspace_is_refused(project: Repository, exported: bytes, values: dict[str, Any]) -> None:
    opened = OpenedExport.of(exported)
    opened.change_mission(lambda data: data["workspace"].update(values))
    assert_refused(opened.reseal(), project, "cannot be imported")


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part["changes"][0].update(state="kept"),
        lambda part: part["changes"][0].update(commit="main"),
        lambda part: part["changes"][0].update(state="committed", base=""),
        lambda part: part["changes"][0].update(result="{"),
        lambda part: part["changes"][0].update(files=["x" * 5_000]),
        lambda part: part["changes"].append(part["changes"][0]),
        lambda part: part.update(reservations=[{"shared": False, "pattern": "../x", "released": False}]),
        lambda part: part.update(extra=1),
    ],
)
def test_malformed_changes_are_refused(project: Repository, exported: bytes, change: Callable[[Any], object]) -> None:
    opened = OpenedExport.of(exported)
    opened.change("edit", lambda data: change(data["workspace"]))
    assert_refused(opened.reseal(), project, "cannot be imported")


def test_changes_need_a_workspace(project: Repository, exported: bytes) -> None:
    opened = OpenedExport.of(exported)
    opened.change_mission(lambda data: data.pop("workspace"))
    opened.commits = b""
    before = stored_state()
    with pytest.raises(errors.Invalid, match="the mission has no workspace"):
        archives.import_bytes(opened.reseal())
    assert stored_state() == before


def ordered(value: dict[str, Any]) -> dict[str, Any]:
    """With the names in the order of jsonb."""
    return dict(sorted(value.items(), key=lambda item: (len(item[0]), item[0])))
