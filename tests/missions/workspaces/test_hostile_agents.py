"""Agents that attack the fleet through git: by configuration, hooks, links, other copies and the mirror."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from missions.models import Change, Mission, Sortie
from missions.queries import mission_results, sortie_json
from missions.workspaces import commits, copies, refusals
from missions.workspaces.repositories import git, mirrors
from tests.support import fleet, repository
from tests.support.repository import Repository

ATTACK = """
cat > attack <<'END'
#!/bin/sh
touch {flag}
END
chmod +x attack
cp attack "$(pwd)/.git/attack"
for hook in pre-commit post-commit post-checkout post-index-change reference-transaction pre-auto-gc; do
    mkdir -p .git/hooks; cp attack .git/hooks/$hook
done
git config core.fsmonitor "$(pwd)/attack"
git config core.hooksPath "$(pwd)/.git/hooks"
git config core.sshCommand "$(pwd)/attack"
git config core.editor "$(pwd)/attack"
git config core.alternateRefsCommand "$(pwd)/attack"
git config uploadpack.packObjectsHook "$(pwd)/attack"
git config diff.external "$(pwd)/attack"
git config filter.x.clean "$(pwd)/attack"
git config filter.x.smudge "$(pwd)/attack"
git config filter.x.process "$(pwd)/attack"
git config diff.x.textconv "$(pwd)/attack"
git config merge.x.driver "$(pwd)/attack"
git config include.path "$(pwd)/attack"
echo '* filter=x diff=x merge=x ident export-subst' > .gitattributes
mkdir -p .git/info; echo '* filter=x' > .git/info/attributes; echo '*' > .git/info/exclude
echo /etc >> .git/objects/info/alternates
"""


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {"app.py": "one\ntwo\nthree\n", "dir/file": "x\n"})


def test_the_copys_own_git_repository_neither_runs_programs_nor_hides_files(
    project: Repository, tmp_path: Path
) -> None:
    sortie = repository.sortie_copy(project)
    flag = tmp_path / "attacked"
    sortie.sh(ATTACK.format(flag=flag) + "sed -i s/two/new/ app.py; echo '$Id$' > new")
    change = sortie.commit()
    assert change.paths == (".gitattributes", "app.py", "attack", "new")
    with copies.lock(sortie.copy, attempt=1):
        commits.check_out(sortie.copy, tree=change.tree)
    assert git.run("cat-file", "blob", f"{change.commit}:new", at=sortie.copy.mirror) == b"$Id$\n"
    next_sortie = repository.sortie_copy(project, tip=change.commit)
    assert "new" in next_sortie.sh("cat app.py")
    assert not flag.exists()


@pytest.mark.parametrize(
    "script",
    [
        "rm -rf .git",
        "rm -rf .git; echo 'gitdir: /etc' > .git",
        "rm -rf .git; ln -s /etc .git",
        "rm -rf .git; ln -s .. .git",
        "rm -rf .git; mkfifo .git",
        "echo 'ref: refs/heads/../../../../x' > .git/HEAD; echo garbage > .git/config",
        "git update-index --assume-unchanged app.py; git update-index --skip-worktree dir/file",
    ],
)
def test_files_are_committed_whatever_the_agent_does_to_dot_git(project: Repository, script: str) -> None:
    sortie = repository.sortie_copy(project)
    sortie.sh(f"{script}; sed -i s/two/new/ app.py; echo y > dir/file")
    change = sortie.commit()
    assert change.paths == ("app.py", "dir/file")
    with copies.lock(sortie.copy, attempt=1):
        commits.check_out(sortie.copy, tree=change.tree)
        copies.renew_repository(sortie.copy, branch="fleet/test", commit=change.commit)
    assert sortie.sh("git status --porcelain; git log -1 --format=%s").strip() == "edit: A test"


def test_links_are_committed_as_links_and_never_followed_out_of_the_copy(project: Repository, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("secret")
    sortie = repository.sortie_copy(project)
    sortie.sh(f"rm -r dir; ln -s {secret} dir; ln -s /etc/passwd passwd; ln -s ../../.. up")
    change = sortie.commit()
    assert change.paths == ("dir", "dir/file", "passwd", "up")
    listed = git.line("ls-tree", "-r", change.commit, at=sortie.copy.mirror)
    assert [row.split()[0] for row in listed.splitlines()] == ["100644", "120000", "120000", "120000"]
    with copies.lock(sortie.copy, attempt=1):  # switch to the base and back: nothing is written through the link
        commits.check_out(sortie.copy, tree=f"{change.base}^{{tree}}")
        commits.check_out(sortie.copy, tree=change.tree)
    assert [path.name for path in secret.iterdir()] == ["file"]
    assert (secret / "file").read_text() == "secret"


def test_a_folder_replaced_by_a_link_while_git_reads_discloses_nothing(project: Repository, tmp_path: Path) -> None:
    """The work may still run when a user reads its diff. Git can read only the copy and the objects."""
    secret = tmp_path / "secret"
    secret.mkdir()
    for number in range(30):
        (secret / f"file{number}").write_text("top secret\n")
    project.commit({f"many/file{number}": f"{number}\n" for number in range(30)})
    sortie = repository.sortie_copy(project)
    ending = threading.Event()

    def swap() -> None:
        folder, hidden_folder = sortie.path / "many", sortie.path / ".git" / "aside"
        while not ending.is_set():
            os.rename(folder, hidden_folder)
            os.symlink(secret, folder)
            os.unlink(folder)
            os.rename(hidden_folder, folder)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(15):
            try:
                with copies.reader(sortie.copy) as own:
                    tree = commits.write_tree(own)
                    text = git.run("diff-tree", "-p", "-r", own.base, tree, env=own.read_env)
            except (git.GitError, refusals.CommitRefused):
                continue  # the folder changes while git reads it
            assert b"top secret" not in text
    finally:
        ending.set()
        swapper.join()


@pytest.mark.parametrize(
    "name", ["--all", "-f", ":(glob)**", "*", "new\nline", 'quote"d', "é", "e\u0301", "trailing ", "\\x"]
)
def test_git_does_not_interpret_file_names(project: Repository, name: str) -> None:
    sortie = repository.sortie_copy(project)
    (sortie.path / name).write_text("new\n")
    assert sortie.commit().paths == (name,)
    (sortie.path / name).unlink()


def test_names_that_differ_only_in_case_or_form_are_committed(project: Repository) -> None:
    names = ["README", "readme", "é", "e\u0301"]
    sortie = repository.sortie_copy(project)
    for number, name in enumerate(names):
        (sortie.path / name).write_text(f"{number}\n")
    change = sortie.commit()
    assert set(change.paths) == set(names)
    next_sortie = repository.sortie_copy(project, tip=change.commit)
    assert [(next_sortie.path / name).read_text() for name in names] == ["0\n", "1\n", "2\n", "3\n"]


def test_a_name_that_is_not_utf8_is_committed(project: Repository) -> None:
    sortie = repository.sortie_copy(project)
    with open(os.fsencode(sortie.path) + b"/\xff\xfe", "w") as file:
        file.write("new\n")
    (path,) = sortie.commit().paths
    assert git.printable(path) == "\ufffd\ufffd"


def test_pipes_and_sockets_are_left_out(project: Repository) -> None:
    sortie = repository.sortie_copy(project)
    sortie.sh("mkfifo pipe; mkdir pipes; mkfifo pipes/pipe; echo x > new")
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(sortie.path, os.O_PATH)
        server.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
        assert sortie.commit().paths == ("new",)


@pytest.mark.django_db(transaction=True)
class TestWhileItRuns:
    """With the sandbox and the engine."""

    @staticmethod
    def output(mission: Mission, key: str) -> str:
        sortie = Sortie.objects.get(mission=mission, key=key)
        return "".join(chunk.text for chunk in mission_results.output(sortie=sortie))

    def test_work_sees_neither_other_copies_nor_the_checkout_and_cannot_write_to_the_mirror(
        self, project: Repository
    ) -> None:
        home = copies.of(sortie=Sortie().id, mirror=project.path).path.parent
        mirror = mirrors.of(str(project.path))
        script = f"""
            ls {home} | grep -v "$(basename "$PWD")" && exit 1
            ls {home.parent}/commits {project.path} 2>/dev/null | grep . && exit 2
            git --git-dir {mirror} log --oneline --all >/dev/null || exit 3
            git --git-dir {mirror} update-ref refs/heads/main HEAD 2>/dev/null && exit 4
            touch {mirror}/x 2>/dev/null && exit 5
            rm -rf {mirror}/refs 2>/dev/null; test -d {mirror}/refs || exit 6
            mv "$PWD" "$PWD-2" 2>/dev/null && exit 7
            echo fine > fine
        """
        mission = fleet.launch(
            {"one": {"run": script}, "two": {"run": script.replace("fine", "good")}},
            workspace={"repository": str(project.path)},
        )
        assert fleet.run_mission(mission) == "succeeded", [
            (item["key"], item["error"]) for item in sortie_json.of_mission(mission)
        ]
        assert repository.branch(mission).files() == ["app.py", "dir/file", "fine", "good"]

    def test_verify_ignores_what_work_leaves_in_its_git_repository(self, project: Repository) -> None:
        attack = ATTACK.replace("touch {flag}", "echo attacked >> app.py; echo attacked >&2")
        verify = "git status --porcelain >&2; git diff HEAD --stat >&2; git diff --quiet HEAD && ! grep attacked app.py"
        mission = fleet.launch(
            {"edit": {"run": attack + "sed -i s/two/new/ app.py"}},
            workspace={"repository": str(project.path), "verify": verify},
        )
        assert fleet.run_mission(mission) == "succeeded", [item["error"] for item in sortie_json.of_mission(mission)]
        assert repository.branch(mission).read("app.py") == "one\nnew\nthree\n"

    def test_copies_do_not_share_their_stashes(self, project: Repository) -> None:
        script = (
            "for i in $(seq 5); do echo {name} > app.py; git stash -q; test $(git stash list | wc -l) = 1;"
            " grep -q two app.py; git stash pop -q; grep -qx {name} app.py; done; cp app.py {name}; git checkout -q app.py"
        )
        mission = fleet.launch(
            {name: {"run": script.format(name=name)} for name in ("one", "other")},
            workspace={"repository": str(project.path)},
        )
        assert fleet.run_mission(mission) == "succeeded", [item["error"] for item in sortie_json.of_mission(mission)]
        assert repository.branch(mission).files() == ["app.py", "dir/file", "one", "other"]
        assert project.git("stash", "list") == ""

    def test_commits_of_the_work_itself_are_only_part_of_its_change(self, project: Repository) -> None:
        script = "echo 1 > a; git add a; git commit -qm mine; git tag v1; git checkout -qb other; echo 2 > b; git gc -q"
        mission = fleet.launch({"edit": {"run": script}}, workspace={"repository": str(project.path)})
        assert fleet.run_mission(mission) == "succeeded", [item["error"] for item in sortie_json.of_mission(mission)]
        branch = repository.branch(mission)
        assert (branch.files(), branch.subjects()) == (["a", "app.py", "b", "dir/file"], ["edit: A test"])
        assert Change.objects.get().files == ["a", "b"]


def test_fifteen_copies_of_one_repository_are_made_concurrently(project: Repository) -> None:
    sorties: list[repository.SortieCopy] = []
    threads = [threading.Thread(target=lambda: sorties.append(repository.sortie_copy(project))) for _ in range(15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sorties) == 15
    assert all(subprocess.check_output(["git", "status", "--porcelain"], cwd=sortie.path) == b"" for sortie in sorties)
