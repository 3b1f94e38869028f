"""A git repository inside a copy: git must not look into it, because it would run what that repository configures.

And if work ran a program in git's sandbox all the same, it could not make the engine write or read elsewhere.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fleet import errors
from missions.workspaces import commits, copies, git_diffs, refusals, uncommitted
from missions.workspaces.repositories import git, mirrors
from tests.support import repository
from tests.support.repository import Repository, SortieCopy

# A repository at lib whose HEAD is the commit of the submodule, and which configures a program.
ATTACK = """
rm -rf lib && git init -q lib && {head}
cat > lib/.git/attack <<'END'
#!/bin/sh
ran() {{ echo "a program of the copy ran" > "$1/attacked"; }}
ran "$HOME"; ran "$GIT_OBJECT_DIRECTORY"; ran "$(dirname "$GIT_INDEX_FILE")"; ran "$(pwd)"; ran "$(pwd)/.."
END
chmod +x lib/.git/attack
git -C lib config core.fsmonitor "$(pwd)/lib/.git/attack"
git -C lib config filter.x.clean "$(pwd)/lib/.git/attack"
mkdir -p lib/.git/hooks && cp lib/.git/attack lib/.git/hooks/post-index-change
echo '* filter=x' > lib/.gitattributes
"""
SAME_COMMIT = "git ls-files -s lib | cut -d' ' -f2 > lib/.git/HEAD"
OWN_COMMIT = "(cd lib && echo x > x && git add x && git commit -qm x)"


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    library = repository.create(tmp_path / "library", {"lib.py": "x\n"})
    new_project = repository.create(tmp_path / "project", {"app.py": "one\n"})
    new_project.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.path), "lib")
    new_project.commit({}, "Add a submodule")
    return new_project


def traces(tmp_path: Path, sortie: SortieCopy) -> list[Path]:
    folders = (tmp_path, sortie.copy.engine, sortie.path, sortie.copy.mirror)
    return [path for folder in folders for path in folder.rglob("attacked")]


def test_a_submodule_runs_nothing_when_the_work_is_committed(project: Repository, tmp_path: Path) -> None:
    sortie = repository.sortie_copy(project)
    sortie.sh(ATTACK.format(head=SAME_COMMIT) + "echo two > app.py")
    assert sortie.commit().paths == ("app.py",)
    assert traces(tmp_path, sortie) == []


def test_a_submodule_runs_nothing_when_running_work_is_read(project: Repository, tmp_path: Path) -> None:
    sortie = repository.sortie_copy(project)
    sortie.sh(ATTACK.format(head=SAME_COMMIT) + "echo two > app.py")
    message = commits.Message(author="backend", subject="half", trailers={})
    saved_ref = uncommitted.save(
        sortie.copy,
        message=message,
        ref="refs/fleet/attempts/srt_1/1",
        max_bytes=1_000_000,
        deadline=time.monotonic() + 60,
    )
    assert git.run("show", f"{saved_ref.commit}:app.py", at=sortie.copy.mirror) == b"two\n"
    assert [file.path for file in git_diffs.of_copy(sortie.copy, max_bytes=1_000).files] == ["app.py"]
    assert traces(tmp_path, sortie) == []


def test_a_repository_that_the_work_has_created_runs_nothing_however_often_it_is_read(
    project: Repository, tmp_path: Path
) -> None:
    project.git("rm", "-rqf", "lib")
    project.commit({}, "Without a submodule")
    sortie = repository.sortie_copy(project)
    sortie.sh(ATTACK.format(head=OWN_COMMIT) + "echo two > app.py")
    for _ in range(3):  # when it is checked, committed and saved
        with pytest.raises(refusals.CommitRefused, match="lib is a git repository of its own"):
            sortie.commit()
    assert traces(tmp_path, sortie) == []


def test_a_submodule_that_was_removed_or_moved_is_noticed(project: Repository) -> None:
    sortie = repository.sortie_copy(project)
    sortie.sh("rmdir lib; sed -i d .gitmodules")
    assert sortie.commit().paths == (".gitmodules", "lib")
    sortie = repository.sortie_copy(project)
    sortie.sh(f"git init -q lib; {OWN_COMMIT}")
    with pytest.raises(refusals.CommitRefused, match="lib is a git repository of its own"):
        sortie.commit()


# ── The second line of defence ───────────────────────────────────────────────────────────────────────────────────────


def attack(sortie: SortieCopy, script: str) -> str:
    """Run a script in the sandbox in which git commits the work of an attempt. Returns its output."""
    return git.run_in_sandbox(
        script,
        copy=sortie.path,
        writable_copy=False,
        run=sortie.copy.run,
        git_folder=sortie.copy.git_folder,
        mirror=sortie.copy.mirror,
        env=sortie.copy.env,
        accept=range(256),
    ).stdout.decode()


@pytest.mark.parametrize("name", ["base", "lock", "include", "patch", "new-index", "git", "git/config", "git/HEAD"])
def test_a_program_in_gits_sandbox_can_replace_none_of_the_engines_files(
    project: Repository, tmp_path: Path, name: str
) -> None:
    sortie = repository.sortie_copy(project)
    before = (sortie.copy.base, (sortie.copy.git_folder / "config").read_text())
    target = tmp_path / "target"
    attack(sortie, f'cd "$(dirname "$GIT_DIR")"; rm -rf {name}; ln -s {target} {name}; echo attacked > {name}')
    assert (sortie.copy.base, (sortie.copy.git_folder / "config").read_text()) == before
    assert not (sortie.copy.engine / name).is_symlink()
    assert not target.exists()


def test_a_program_in_gits_sandbox_cannot_name_other_stores_of_objects(project: Repository) -> None:
    sortie = repository.sortie_copy(project)
    before = (sortie.copy.git_folder / "objects" / "info" / "alternates").read_text()
    attack(
        sortie,
        'cd "$GIT_DIR/objects"; echo /etc >> info/alternates; mv info x; mkdir info; echo /etc > info/alternates',
    )
    assert (sortie.copy.git_folder / "objects" / "info" / "alternates").read_text() == before


def test_an_index_that_became_a_link_is_not_read(project: Repository, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    sortie = repository.sortie_copy(project)
    commit = sortie.copy.base
    attack(sortie, f'rm "$GIT_INDEX_FILE"; ln -s {secret} "$GIT_INDEX_FILE"')
    with copies.lock(sortie.copy, attempt=1), pytest.raises(errors.FleetError):
        copies.renew_repository(sortie.copy, branch="fleet/test", commit=commit)
    assert "secret" not in "".join(path.read_text("latin-1") for path in (sortie.path / ".git").rglob("index*"))
    with pytest.raises(errors.FleetError), copies.reader(sortie.copy):
        pass
    copies.make(sortie.copy, branch="fleet/test", tip=commit, author="backend")
    assert secret.read_text() == "secret"
    assert sortie.copy.exists
    assert mirrors.read_ref(sortie.copy.mirror, "refs/heads/fleet/test") == commit
