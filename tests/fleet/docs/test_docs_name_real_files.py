"""Every path that a page or a comment names exists."""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT

PATH = re.compile(
    r"(?<![\w/.$~{<*-])((?:[\w-]+/)+[\w-]+\.(?:py|sql|md|yaml|yml|json|sh|c|toml|in|txt|css|html))(?![\w/*-])"
)
NAMES = subprocess.run(
    ["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True
).stdout.splitlines()
WRITTEN = {
    "requirements/advisories.json",
    "requirements/advisories-ignored.txt",
}  # written by `make audit`, and by users who ignore an advisory
TOP = {path.name for path in CHECKOUT.iterdir() if path.is_dir()}


def tracked(*patterns: str) -> list[Path]:
    result = subprocess.run(
        ["git", "ls-files", *patterns], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return [CHECKOUT / name for name in result.splitlines()]


def prose_of(file: Path) -> Iterator[str]:
    """The prose of a file: all of a page, or the comments and docstrings of code."""
    text = file.read_text()
    if file.suffix != ".py":
        yield re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)  # examples name the reader's files
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""')):
            yield token.string


def exists(path: str) -> bool:
    """From the top, or below the package that a comment is in: `sql/claim.sql`."""
    return (CHECKOUT / path).exists() or any(name.endswith(f"/{path}") for name in NAMES)


@pytest.mark.parametrize("patterns", [("*.md",), ("*.py",), ("*.sql", "*.yaml", "Makefile", "*.sh")], ids=str)
def test_every_named_path_exists(patterns: tuple[str, ...]) -> None:
    missing = [
        f"{file.relative_to(CHECKOUT)}: {path}"
        for file in tracked(*patterns)
        if "migrations" not in file.parts and "tests" not in file.parts
        for text in prose_of(file)
        for path in PATH.findall(text)
        if (file.suffix == ".py" or path.split("/")[0] in TOP)
        and not path.startswith("build/")
        and path not in WRITTEN
        and not exists(path)
    ]
    assert missing == []
