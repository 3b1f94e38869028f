"""Commands that the pages name within sentences and tables exist, with the actions and options that are named."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from functools import cache

import pytest
from django.core.management import get_commands, load_command_class

from scripts import docs
from tests.support.paths import CHECKOUT

CODE = re.compile(r"`([^`\n]+)`")
NAMED = re.compile(r"^(?:\S*manage\.py )?(fleet_[a-z]+|fleet [a-z]+)(?= |$)(.*)$")
ROLES = {"fleet_owner"}  # of Postgres


def commands_of(page: str) -> Iterator[tuple[str, str, str]]:
    """Each command of the fleet in the text of a page: the whole command, its name, and the rest."""
    text = docs.FENCE.sub("", (CHECKOUT / page).read_text()).replace("\\|", "|")
    for code in CODE.findall(text):
        if (match := NAMED.match(code)) and match[1] not in ROLES:
            yield code, match[1].replace("fleet ", "fleet_"), match[2]


NAMES = [(page, *item) for page in docs.pages(CHECKOUT) for item in commands_of(page)]


@cache
def parser(name: str) -> argparse.ArgumentParser:
    app = get_commands()[name]
    assert isinstance(app, str)
    return load_command_class(app, name).create_parser("manage.py", name)


def subparsers(root_parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action.choices for action in root_parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0]) if found else {}


def test_commands_are_found() -> None:
    assert len(NAMES) > 100


@pytest.mark.parametrize(("page", "code", "name", "rest"), NAMES, ids=[f"{page}: {code}" for page, code, *_ in NAMES])
def test_the_command_exists_with_its_action_and_options(page: str, code: str, name: str, rest: str) -> None:
    if name not in get_commands():
        assert name.removeprefix("fleet_") in get_commands(), f"{page}: {code}"  # one of Django's: fleet migrate
        return
    at = parser(name)
    words = rest.split()
    while words and (choices := subparsers(at)):
        actions = words.pop(0)
        if not re.fullmatch(r"[a-z-]+(\|[a-z-]+)*", actions):  # a placeholder, or an option of the command itself
            words.insert(0, actions)
            break
        assert set(actions.split("|")) <= set(choices), f"{page}: {code}"
        at = choices[actions.split("|")[0]]
    known = {option for action in at._actions for option in action.option_strings}
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", " ".join(words)))
    assert options <= known, f"{page}: {code}"
