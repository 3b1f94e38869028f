"""The engine refuses to commit certain changes. It names the file, the reason and the remedy, and omits nothing silently."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from fleet import errors
from fleet.config.home import Home
from missions.workspaces import branches
from missions.workspaces.refusals import CommitRefused
from tests.support import repository
from tests.support.paths import CHECKOUT
from tests.support.repository import Repository, SortieCopy
from tests.support.work.confined import NOBODY

COMMIT = "git -c user.name=a -c user.email=b commit --quiet --allow-empty --message x"


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {"a.txt": "one\ntwo\nthree\n", "dir/b.txt": "b\n"})


@pytest.fixture
def sortie(project: Repository) -> SortieCopy:
    return repository.sortie_copy(project)


@pytest.mark.parametrize(
    ("script", "name"),
    [
        (f"git init -q sub; cd sub; {COMMIT}", "sub"),
        ("git init -q sub", "sub"),
        ('git init -q "it\'s"', "it's"),
        ("mkdir sub; echo 'gitdir: ../.git' > sub/.git; echo x > sub/file", "sub"),
    ],
)
def test_a_repository_inside_the_copy_is_refused(sortie: SortieCopy, script: str, name: str) -> None:
    sortie.sh(script)
    with pytest.raises(CommitRefused, match=f"{name} is a git repository of its own"):
        sortie.commit()


def test_an_ignored_repository_inside_the_copy_is_accepted(sortie: SortieCopy) -> None:
    sortie.sh("echo sub > .gitignore; git init -q sub; echo x > sub/file")
    assert sortie.commit().paths == (".gitignore",)


def test_a_large_file_is_refused_before_git_reads_it(sortie: SortieCopy) -> None:
    sortie.sh("truncate -s 100G large")
    with pytest.raises(CommitRefused, match="large is too large: a committed file may have at most 1,000,000 bytes"):
        sortie.commit()


def test_a_large_file_that_is_ignored_or_unchanged_is_accepted(tmp_path: Path) -> None:
    project = repository.create(tmp_path / "large", {".gitignore": "data\n", "old": "x" * 3_000})
    sortie = repository.sortie_copy(project)
    sortie.sh("truncate -s 1G data; echo new > new; touch old")
    assert sortie.commit(max_bytes=2_000).paths == ("new",)


def test_the_attempts_own_token_is_refused_in_contents_names_and_links(project: Repository) -> None:
    for script in (
        "echo 'key: s3cr3t' > new",
        "ln -s s3cr3t new",
        "head -c 999998 /dev/zero > new; printf s3cr3t >> new",
    ):
        sortie = repository.sortie_copy(project)
        sortie.sh(script)
        with pytest.raises(CommitRefused, match="new contains the attempt's own token"):
            sortie.commit(secret="s3cr3t", max_bytes=2_000_000)
    sortie = repository.sortie_copy(project)
    sortie.sh("echo x > s3cr3t.txt")
    with pytest.raises(CommitRefused, match="name of a file contains"):
        sortie.commit(secret="s3cr3t")


def test_a_token_is_found_among_many_files(sortie: SortieCopy) -> None:
    sortie.sh("mkdir many; for i in $(seq 300); do echo $i > many/$i; done; echo s3cr3t > many/250")
    with pytest.raises(CommitRefused, match="many/250"):
        sortie.commit(secret="s3cr3t")


def test_leftover_conflict_markers_are_refused_but_not_those_in_a_text_about_markers(project: Repository) -> None:
    base = project.git("rev-parse", "HEAD")
    mine, theirs = repository.sortie_copy(project), repository.sortie_copy(project)
    mine.sh("sed -i s/two/mine/ a.txt")
    theirs.sh("sed -i s/two/theirs/ a.txt; printf '<<<<<<< ours\\n>>>>>>> theirs\\n' > guide.md")
    change, tip = mine.commit().commit, theirs.commit().commit
    result = branches.merge(mine.copy.mirror, onto=tip, commit=change)
    assert result.files == ("a.txt",)
    next_sortie = repository.sortie_copy(project, tip=tip, tree=result.tree)
    next_sortie.sh("mv a.txt renamed.txt; echo more >> guide.md")
    with pytest.raises(CommitRefused, match=r"renamed\.txt still contains conflict markers"):
        next_sortie.commit(merged=(tip, change))
    next_sortie.sh("printf 'one\\nboth\\nthree\\n' > renamed.txt")
    assert next_sortie.commit(merged=(tip, change)).paths == ("a.txt", "guide.md", "renamed.txt")
    assert base != tip


def test_a_pipe_that_replaces_a_file_is_refused(sortie: SortieCopy) -> None:
    sortie.sh("rm a.txt; mkfifo a.txt")
    with pytest.raises(CommitRefused, match=r"a\.txt is not a regular file"):
        sortie.commit()


@pytest.mark.parametrize("name", [".gitignore", ".gitattributes", ".gitmodules"])
def test_a_pipe_on_which_git_would_block_is_refused(sortie: SortieCopy, name: str) -> None:
    sortie.sh(f"mkfifo dir/{name}")
    with pytest.raises(CommitRefused, match=f"dir/{name} is not a regular file"):
        sortie.commit()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("ln -s a.txt .gitmodules", "does not allow the name .gitmodules"),
        ("echo x > git~1", "does not allow the name git~1"),
        (
            "printf '[submodule \"x\"]\\n\\tpath=x\\n\\turl=--upload-pack=x\\n' > .gitmodules",
            "disallowed submodule url",
        ),
    ],
)
def test_paths_that_are_dangerous_to_check_out_are_refused(sortie: SortieCopy, script: str, reason: str) -> None:
    sortie.sh(script)
    with pytest.raises(CommitRefused, match=reason):
        sortie.commit()


def test_the_reason_can_be_stored_whatever_the_name_of_the_file(sortie: SortieCopy) -> None:
    with open(os.fsencode(sortie.path) + b"/\xff", "w") as file:
        file.write("x" * 2_000_000)
    with pytest.raises(CommitRefused) as excinfo:
        sortie.commit()
    assert str(excinfo.value).encode("utf-8")


def test_a_removed_or_replaced_copy_is_refused(project: Repository) -> None:
    for script in ("rm -rf {0}", "rm -rf {0}; ln -s /etc {0}", "rm -rf {0}; echo > {0}"):
        sortie = repository.sortie_copy(project)
        subprocess.run(["/bin/sh", "-c", script.format(sortie.path)], check=True)
        with pytest.raises(errors.FleetError, match="has been removed or replaced"):
            sortie.commit()


def as_nobody(home: Path, run: Callable[[], None]) -> str:
    """Run it in a forked process as an ordinary user. Returns the traceback of its exception, or ""."""
    for path in (home.parent, home, *home.parent.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            run()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-30_000:])
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as file:
        return file.read().decode()


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.access(CHECKOUT, os.X_OK), reason="only root can become an ordinary user"
)
@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("echo x > new; chmod 0 new", "new"),
        ("mkdir new; echo x > new/x; chmod 0 new", "new"),
        ("mkdir new; echo x > new/x; chmod 300 new", "new"),
        ("chmod 0 dir", "dir"),
        ("echo c > a.txt; chmod 0 a.txt", "a.txt"),
    ],
)
def test_unreadable_files_are_refused_and_not_left_out(script: str, name: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="fleet-unreadable-"))
    try:
        with override_settings(
            FLEET_HOME=Home(folder / "home"), FLEET_SANDBOX=False
        ):  # only root may be able to run this Python
            settings.FLEET_HOME.root.mkdir()
            project = repository.create(folder / "project", {"a.txt": "a\n", "dir/b.txt": "b\n"})
            sortie = repository.sortie_copy(project)

            def run() -> None:
                sortie.sh(script)
                with pytest.raises(CommitRefused, match=f"{name}.* cannot be read"):
                    sortie.commit()

            failure = as_nobody(settings.FLEET_HOME.root, run)
            assert not failure, failure
    finally:
        shutil.rmtree(folder)
