"""The messages that docs/troubleshooting.md quotes are messages of the code."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.paths import CHECKOUT

PAGE = (CHECKOUT / "docs" / "troubleshooting.md").read_text()
# Messages in tables whose first column is `message`, and the one in a paragraph.
TABLES = re.findall(r"^\| message \|.*\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
QUOTED = [
    *(message for table in TABLES for message in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)),
    *re.findall(r"^`(This host[^`]+)`", PAGE, re.MULTILINE),
]


def texts() -> str:
    """All texts in the code. The values in them are replaced by `…`."""
    found = [(CHECKOUT / "scripts" / "install.sh").read_text()]
    for app in ("fleet", "agents", "missions", "checkpoints"):
        for path in (CHECKOUT / app).rglob("*.py"):
            found += [_text(node) for node in ast.walk(ast.parse(path.read_text())) if _text(node)]
    found += [_text(node) for node in ast.walk(ast.parse((CHECKOUT / "manage.py").read_text())) if _text(node)]
    return "\n".join(found)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


@pytest.fixture(scope="module")
def code() -> str:
    return texts()


def test_messages_are_found() -> None:
    assert len(QUOTED) > 30


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_one_of_the_code(message: str, code: str) -> None:
    pattern = ".*".join(re.escape(part) for part in message.split("…"))
    assert re.search(pattern, code), message
