"""The whole audit on real repositories: ordinary, empty, odd and hostile ones."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from examples.repo_audit.checks import inventory
from tests.examples import audit_runs

KEY = "AKIA" + "QYLPMN5HHHFPZAM2"
FAULTY = {
    "README.md": "# Shop\n\n" + "It sells things. " * 20 + "\n\nSee [the guide](docs/guide.md) and [below](#usage).\n",
    "LICENSE": "MIT",
    "shop/settings.py": f'AWS = "{KEY}"\n',
    "shop/cart.py": "import os\n\n\ndef total(items=[]):\n    items.append(prize)\n    return items\n",
    "shop/run.py": "import subprocess\n\n\ndef run(name):\n    subprocess.run(f'ls {name}', shell=True)\n",
    "tests/test_cart.py": "from shop import cart\n\n\ndef test_total():\n    cart.total()\n",
    "web/index.html": "<!doctype html><html><head><title>x</title></head><body><img src=a.png></body></html>",
    "web/site.css": "a { color: red\n} }\n",
    ".github/workflows/ci.yml": "jobs:\n  a:\n    steps:\n      - run: echo ${{ github.event.issue.title }}\n",
}


def test_planted_problems_are_found_with_the_most_severe_first(tmp_path: Path) -> None:
    run = audit_runs.run_audit(audit_runs.repository(tmp_path / "shop", FAULTY), tmp_path / "out")
    result = run.results["report"]
    assert result["top"][0]["title"] == "A credential is committed"
    assert (result["top"][0]["file"], result["top"][0]["line"]) == ("shop/settings.py", 1)
    assert set(run.top) >= {
        "A name that is not defined",
        "A mutable default argument",
        "A shell command built from values",
        "Links that lead nowhere",
        "Links to headings that do not exist",
        "Images without a text alternative",
        "Pages without a declared language",
        "A workflow runs text written by strangers",
        "Tests that check nothing",
        "CSS that browsers skip",
    }
    assert result["by_severity"]["critical"] == 1
    assert result["findings"] == sum(result["by_severity"].values())
    assert all(item["why"] and item["fix"] for item in result["top"])


def test_each_check_that_reports_progress_ends_by_saying_what_it_has_done(tmp_path: Path) -> None:
    """The last note stays in `fleet mission show`; "0 of 13 files" next to "succeeded" would look like a failure."""
    run = audit_runs.run_audit(audit_runs.repository(tmp_path / "shop", FAULTY), tmp_path / "out")
    assert run.progress["inventory"][1] == "files read: 9"
    assert {fraction for fraction, _ in run.progress.values()} == {1}


def test_no_secret_value_leaves_the_sortie_that_found_it(tmp_path: Path) -> None:
    run = audit_runs.run_audit(audit_runs.repository(tmp_path / "shop", FAULTY), tmp_path / "out")
    assert KEY not in json.dumps(run.results)
    for name in ("report.html", "report.md", "findings.json", "findings.sarif"):
        assert KEY not in run.text(name)


def test_the_fan_out_depends_on_the_inventory(tmp_path: Path) -> None:
    files = {**FAULTY, "web/app.js": "function a() { return 1 }\n", "cmd/main.go": "package main\nfunc main() {}\n"}
    run = audit_runs.run_audit(audit_runs.repository(tmp_path / "shop", files), tmp_path / "out")
    added_keys = [key for key in run.order if "[" in key]
    assert set(added_keys) == {
        "complexity[language=python]", "complexity[language=javascript]", "complexity[language=go]", "secrets[part=1]",
    }  # fmt: skip
    assert all(run.order.index(key) < run.order.index("report") for key in added_keys)
    assert run.order.index("complexity[language=go]") < run.order.index("hotspots")


def test_the_fan_out_is_bounded_and_covers_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "FILES_PER_PART", 3)
    files = {f"a{n}.py": f"def f{n}():\n    return {n}\n" for n in range(40)}
    run = audit_runs.run_audit(audit_runs.repository(tmp_path / "many", files), tmp_path / "out")
    parts = [key for key in run.order if key.startswith("complexity")]
    assert len(parts) == inventory.MAX_PARTS
    assert sum(run.results[key]["checked_count"] for key in parts) == 40
    assert sum(run.results[key]["checked_count"] for key in run.order if key.startswith("secrets")) == 40


def test_a_repository_without_python_says_so(tmp_path: Path) -> None:
    files = {"main.go": "package main\n\nfunc main() {\n}\n" * 60, "README.md": "# Tool\n" + "It does. " * 40}
    run = audit_runs.run_audit(audit_runs.repository(tmp_path / "tool", files), tmp_path / "out")
    assert "There is no Python here" in run.text("report.html")
    assert "There are no tests" in run.top


@pytest.mark.parametrize("commit", [True, False])
def test_an_empty_repository_gets_a_report_that_says_so(tmp_path: Path, commit: bool) -> None:
    run = audit_runs.run_audit(audit_runs.repository(tmp_path / "new", {}, commit=commit), tmp_path / "out")
    assert run.results["report"]["verdict"] == "There is nothing here yet."
    assert run.results["report"]["findings"] == 0
    assert "There is nothing here yet." in run.text("report.html")


def test_files_that_are_not_committed_yet_are_audited(tmp_path: Path) -> None:
    run = audit_runs.run_audit(audit_runs.repository(tmp_path / "new", FAULTY, commit=False), tmp_path / "out")
    assert "A credential is committed" in run.top
    assert "There are no commits yet" in run.text("report.md")


def test_a_folder_that_is_no_repository_fails_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    run = audit_runs.run_audit(tmp_path / "plain", tmp_path / "out")
    for key in ("inventory", "report"):
        assert "is not a git repository" in run.failed[key]
        assert "--param repository=" in run.failed[key]
    assert {"python", "history", "pages"} <= set(run.skipped)


def test_a_bare_repository_and_a_missing_folder_fail_with_a_hint(tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    bare.mkdir()
    audit_runs.git(bare, "init", "-q", "--bare")
    assert "Clone it" in audit_runs.run_audit(bare, tmp_path / "one").failed["inventory"]
    assert "There is no folder" in audit_runs.run_audit(tmp_path / "gone", tmp_path / "two").failed["inventory"]


def test_a_worktree_whose_git_folder_is_hidden_fails_with_a_hint(tmp_path: Path) -> None:
    main = audit_runs.repository(tmp_path / "main", FAULTY)
    audit_runs.git(main, "worktree", "add", "-q", str(tmp_path / "linked"))
    main.rename(tmp_path / "hidden")
    failed = audit_runs.run_audit(tmp_path / "linked", tmp_path / "out").failed["inventory"]
    assert "as in a linked worktree" in failed
    assert "Clone it" in failed


def test_odd_files_are_skipped_and_reported(tmp_path: Path) -> None:
    place = audit_runs.repository(tmp_path / "odd", FAULTY)
    (place / "new\nline.py").write_text("def f(:\n")
    os.makedirs(os.fsencode(place) + b"/caf\xe9")
    with open(os.fsencode(place) + b"/caf\xe9/x.py", "w") as stream:
        stream.write("print(undefined_name)\n")
    (place / "loop").symlink_to("loop")
    (place / "outside").symlink_to("/etc/passwd")
    (place / "binary.py").write_bytes(b"\0\1\2" * 1000)
    (place / "line.js").write_text("a=1;" * 10_000)
    (place / "big.json").write_text("[" + "1," * 600_000 + "1]")
    (place / "locked.py").write_text("x = 1\n")
    audit_runs.git(place, "add", "-A")
    (place / "locked.py").chmod(0)
    (place / "shop" / "run.py").unlink()
    run = audit_runs.run_audit(place, tmp_path / "out")
    skipped = run.results["inventory"]["skipped"]
    assert skipped["symbolic links"] == 2
    assert skipped["larger than 1 MB"] == 1
    assert skipped["not on disk"] == 1
    assert skipped["binary, unreadable or generated"] >= 2
    assert r"caf\xe9/x.py" in run.text("report.html")
    assert "Symbolic links to places on one machine" in run.top
    assert "root:" not in run.text("findings.json")


def test_a_file_reached_through_a_folder_that_became_a_link_is_not_read(tmp_path: Path) -> None:
    place = audit_runs.repository(tmp_path / "odd", {"in/secret.py": "x = 1\n", "a.py": "a = 1\n"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.py").write_text(f'KEY = "{KEY}"\n')
    (place / "in" / "secret.py").unlink()
    (place / "in").rmdir()
    (place / "in").symlink_to(elsewhere)
    run = audit_runs.run_audit(place, tmp_path / "out")
    assert "A credential is committed" not in run.top


def test_hostile_configuration_runs_nothing(tmp_path: Path) -> None:
    files = {**FAULTY, ".gitattributes": "*.py diff=evil filter=evil\n", "pyproject.toml": "[tool.ruff]\nselect = []\n"}
    place = audit_runs.repository(tmp_path / "evil", files)
    mark = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> {mark}\ncat\n")
    program.chmod(0o755)
    for key in (
        "core.fsmonitor", "core.pager", "core.sshCommand", "diff.external", "diff.evil.textconv", "filter.evil.clean",
        "filter.evil.smudge", "gpg.program", "gpg.ssh.program", "core.alternateRefsCommand",
    ):  # fmt: skip
        audit_runs.git(place, "config", key, str(program))
    audit_runs.git(place, "config", "log.showSignature", "true")
    hook = place / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(program.read_text())
    hook.chmod(0o755)
    (place / "shop" / "cart.py").write_text("# TODO: count\nimport os\n")
    run = audit_runs.run_audit(place, tmp_path / "out")
    assert "report" in run.results
    assert not mark.exists(), mark.read_text()
    assert "A credential is committed" in run.top


def test_nothing_is_written_into_the_repository(tmp_path: Path) -> None:
    place = audit_runs.repository(tmp_path / "shop", FAULTY)
    before = _state(place)
    audit_runs.run_audit(place, tmp_path / "out")
    assert _state(place) == before


def test_a_failed_part_is_named_and_the_others_are_reported(tmp_path: Path) -> None:
    place = audit_runs.repository(tmp_path / "shop", FAULTY)
    without = ("python", "secrets[part=1]", "provenance", "store", "history")
    run = audit_runs.run_audit(place, tmp_path / "out", without=without)
    assert set(run.results["report"]["absent"]) == {"python", "secrets", "history", "tests"}
    assert "These checks have no result" in run.text("report.html")
    assert "Links that lead nowhere" in run.top


def _state(place: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(place)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }
