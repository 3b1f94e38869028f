"""A hint names a command that works as printed."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from fleet.console import spelling
from tests.support.paths import CHECKOUT

APPS = ("fleet", "agents", "missions", "checkpoints")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for app in APPS:
        for path in (CHECKOUT / app).rglob("*.py"):
            if "migrations" not in path.parts:
                yield path.relative_to(CHECKOUT), ast.parse(path.read_text())


def words(call: ast.Call) -> list[str]:
    """The command's words; `x` for a value that is known only when it runs, 1 for a number."""
    return [
        str(word.value) if isinstance(word, ast.Constant) else "1" if ast.unparse(word).startswith("str(") else "x"
        for word in call.args
        if not isinstance(word, ast.Starred)
    ]


HINTS = {
    f"{path}:{node.lineno}": words(node)
    for path, tree in trees()
    for node in ast.walk(tree)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "invocation.command" and node.args
    and isinstance(node.args[0], ast.Constant) and node.args[0].value != "help"
}  # fmt: skip


def test_hints_are_found() -> None:
    assert len(HINTS) > 40


@pytest.mark.parametrize("hint", HINTS.values(), ids=HINTS.keys())
def test_the_command_of_a_hint_exists_and_accepts_its_arguments(hint: list[str]) -> None:
    app = get_commands()[hint[0]]
    assert isinstance(app, str)
    command = load_command_class(app, hint[0])
    arguments = ["--on" if word == "x" and hint[1:2] == ["autoscale"] else word for word in hint[1:]]
    if hint[1:] == ["terminate"]:  # the list of agents
        arguments.append("x")
    command.create_parser("manage.py", hint[0]).parse_args(arguments)  # raises CommandError if it does not


@pytest.mark.parametrize("name", sorted({hint[0] for hint in HINTS.values()}))
def test_the_short_spelling_of_a_hint_names_the_same_command(name: str) -> None:
    assert spelling.long(spelling.short(name)) == name


def test_hints_build_commands_only_with_invocation() -> None:
    """Texts that are not docstrings name commands by `invocation.command`."""
    found = []
    for path, tree in trees():
        if str(path) in {"fleet/access/rules_page.py", "fleet/console/invocation.py", "fleet/console/spelling.py"}:
            # a page of docs, and the two modules that know both spellings
            continue
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body and isinstance(node.body[0], ast.Expr)
        }  # fmt: skip
        found += [
            f"{path}:{node.lineno}: {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
            and re.search(r"manage\.py \w|`fleet_|\bfleet_\w+ (up|down|list|show|status|logs|create|spawn)\b", node.value)
        ]  # fmt: skip
    assert [place for place in found if "settings.py" not in place] == []  # a connection's name


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder on PATH with a link named `fleet`, as `make install` puts it into .venv/bin."""
    folder = tmp_path / "my programs"
    folder.mkdir()
    (folder / "fleet").symlink_to(CHECKOUT / "manage.py")
    return folder


@pytest.mark.parametrize(
    "typed, folder, listing",
    [
        ("./manage.py fleet_mission", ".", "./manage.py fleet_mission list"),
        ("{python} manage.py fleet_mission", ".", "{python} manage.py fleet_mission list"),
        ("{root}/manage.py fleet_mission", "docs", "manage.py fleet_mission list"),
        ("{python} {root}/manage.py mission", "docs", "manage.py fleet_mission list"),
        ("fleet mission", "docs", "fleet mission list"),
        ("fleet fleet_mission", ".", "fleet mission list"),
        ("{programs}/fleet mission", "docs", "fleet mission list"),
        ("{python} -m fleet mission", "docs", "{python} -m fleet mission list"),
    ],
)
def test_a_hint_uses_the_users_prefix_and_works_in_the_same_folder(
    typed: str, folder: str, listing: str, programs: Path, subprocess_environment: dict[str, str]
) -> None:
    words = {
        "python": shlex.quote(sys.executable), "root": shlex.quote(str(CHECKOUT)), "programs": shlex.quote(str(programs))
    }  # fmt: skip
    env = {
        **subprocess_environment,
        "FLEET_HOME": str(programs.parent / "home"),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),  # for `python -m`
    }

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line, shell=True, cwd=CHECKOUT / folder, env=env, capture_output=True, text=True, check=False
        )

    result = run(f"{typed.format(**words)} show nonsense")
    assert result.returncode == 1
    hint = result.stderr.strip().partition("See: ")[2]
    assert os.path.basename(hint).endswith(os.path.basename(listing.format(**words)))
    assert run(hint).returncode == 0
