"""Random edits of many sorties land in random order. Each commit keeps its edits, and the branch has all of them."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from fleet import ids
from missions.workspaces import branches, commits
from missions.workspaces.repositories import git, mirrors
from tests.support import repository
from tests.support.repository import Repository

FILES = ("a.txt", "b.txt", "dir/c.txt")
LINES = 30


@dataclass(frozen=True)
class Edit:
    kind: str  # insert, replace, remove (a line), add or delete (a file)
    file: str
    line: int


edits = st.builds(
    Edit,
    kind=st.sampled_from(("insert", "insert", "replace", "replace", "remove", "add", "delete")),
    file=st.sampled_from(FILES),
    line=st.integers(0, LINES - 1),
)
plans = st.lists(st.lists(edits, min_size=1, max_size=3), min_size=3, max_size=6)  # the edits of each sortie


def apply(folder: Path, edit: Edit, token: str) -> None:
    file = folder / edit.file
    lines = file.read_text().splitlines() if file.exists() else []
    place = min(edit.line, max(0, len(lines) - 1))
    match edit.kind:
        case "add":
            (folder / f"{token}.txt").write_text(f"{token}\n")
            return
        case "delete":
            file.unlink(missing_ok=True)
            return
        case "insert":
            lines.insert(place, token)
        case "replace":
            lines[place : place + 1] = [token]
        case "remove":
            del lines[place : place + 1]
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def changed_lines(store: Path, older: str, newer: str) -> list[str]:
    """The removed and added lines of a diff, without their positions."""
    text = git.run("diff-tree", "-p", "-r", "--no-renames", "--unified=0", older, newer, at=store).decode()
    return sorted(line for line in text.splitlines() if line[:1] in ("+", "-") and line[:3] not in ("+++", "---"))


@given(plan=plans, order=st.randoms(use_true_random=False))
@example(plan=[[Edit("delete", "b.txt", 0)], [Edit("delete", "b.txt", 0), Edit("insert", "a.txt", 0)]], order=Random(0))
@settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
def test_each_landed_commit_is_its_authors_and_the_branch_has_them_all(plan: list[list[Edit]], order: Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {name: "".join(f"{name} {number}\n" for number in range(LINES)) for name in FILES}
        check(repository.create(Path(folder) / "project", files), plan, order)


def check(project: Repository, plan: list[list[Edit]], order: Random) -> None:
    base = project.git("rev-parse", "HEAD")
    store = mirrors.ensure(str(project.path), commit=base)
    lane = branches.lane_content(store, sortie=ids.new(), attempt=1)
    branches.write_lane(store, "fleet/test", content=lane, expected="")
    waiting: list[commits.Commit] = []
    landings: list[tuple[commits.Commit, str, str]] = []  # the author's commit, the commit on the branch, its parent

    def land_some(chance: float) -> None:
        order.shuffle(waiting)
        while waiting and order.random() < chance:
            change = waiting.pop()
            tip = mirrors.tip(store, "fleet/test", start=base)
            result = branches.merge(store, onto=tip, commit=change.commit)
            if result.clean:
                message = commits.Message(author="backend", subject="s", trailers={})
                commit = branches.create_commit(store, tree=result.tree, parent=tip, message=message)
                branches.move(store, branch="fleet/test", lane=lane, tip=tip, to=commit)
                landings.append((change, commit, tip))

    for number, changes in enumerate(plan):
        sortie = repository.sortie_copy(project)
        for place, edit in enumerate(changes):
            apply(sortie.path, edit, f"token-{number}-{place}")
        if (change := sortie.commit()).files:
            waiting.append(change)
        land_some(chance=0.4)
    land_some(chance=1.1)

    tip = mirrors.tip(store, "fleet/test", start=base)
    tokens = set(git.run("grep", "-h", "-e", "^token", tip, at=store, accept=(0, 1)).decode().splitlines())
    removed: set[str] = set()
    for change, commit, parent in reversed(landings):
        own_lines = changed_lines(store, change.base, change.commit)
        landed_lines = Counter(changed_lines(store, parent, commit))
        assert not landed_lines - Counter(own_lines)
        before = set(git.run("grep", "-h", "-e", "", parent, at=store, accept=(0, 1)).decode().splitlines())
        for line in Counter(own_lines) - landed_lines:
            assert line.startswith("-"), "only what another sortie has already removed need not be removed again"
            assert line[1:] not in before
        assert mirrors.contains(store, commit=commit, ref=tip)
        for line in own_lines:
            if line.startswith("+token") and line[1:] not in removed:
                assert line[1:] in tokens
        removed |= {line[1:] for line in own_lines if line.startswith("-")}
    first_parents = git.line("rev-list", "--first-parent", f"{base}..{tip}", at=store).splitlines()
    assert first_parents == [commit for _, commit, _ in reversed(landings)]
