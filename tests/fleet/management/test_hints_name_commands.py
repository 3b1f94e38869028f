"""A hint names a command that works as printed."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from tests.conftest import ROOT

APPS = ("fleet", "agents", "missions")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            if "migrations" not in path.parts:
                yield path.relative_to(ROOT), ast.parse(path.read_text())


def words(call: ast.Call) -> list[str]:
    """The command's words; `x` for a value that is known only when it runs."""
    return [
        word.value if isinstance(word, ast.Constant) else "x" for word in call.args if not isinstance(word, ast.Starred)
    ]


HINTS = [
    pytest.param(words(node), id=f"{path}:{node.lineno}")
    for path, tree in trees()
    for node in ast.walk(tree)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "invocation.command" and node.args
]


def test_hints_are_found() -> None:
    assert len(HINTS) > 40


@pytest.mark.parametrize("hint", HINTS)
def test_the_command_of_a_hint_exists_and_accepts_its_arguments(hint: list[str]) -> None:
    app = get_commands()[hint[0]]
    assert isinstance(app, str)
    command = load_command_class(app, hint[0])
    arguments = ["--on" if word == "x" and hint[1:2] == ["autoscale"] else word for word in hint[1:]]
    if hint[1:] == ["terminate"]:  # the agents are a list
        arguments.append("x")
    command.create_parser("manage.py", hint[0]).parse_args(arguments)  # CommandError where it does not


def test_hints_build_commands_only_with_invocation() -> None:
    """Texts that are not docstrings name commands by `invocation.command`."""
    found = []
    for path, tree in trees():
        if str(path) in {"fleet/access/rules_page.py", "fleet/invocation.py"}:  # a page of docs; the helper
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


@pytest.mark.parametrize(
    "typed", ["./manage.py", "{python} manage.py", "{root}/manage.py", "{python} {root}/manage.py"]
)
@pytest.mark.parametrize("folder", [".", "docs"])
def test_a_hint_uses_the_users_prefix_and_works_in_the_same_folder(
    typed: str, folder: str, tmp_path: Path, subprocess_environment: dict[str, str]
) -> None:
    if folder != "." and "{root}" not in typed:
        pytest.skip("manage.py is not in this folder")
    line = typed.format(python=shlex.quote(sys.executable), root=shlex.quote(str(ROOT)))
    env = {**subprocess_environment, "FLEET_HOME": str(tmp_path / "home")}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, cwd=ROOT / folder, env=env, capture_output=True, text=True, check=False
        )

    refused = run(f"{line} fleet_mission show nonsense")
    assert refused.returncode == 1
    hint = refused.stderr.strip().partition("See: ")[2]
    assert hint.endswith("manage.py fleet_mission list")
    assert run(hint).returncode == 0
