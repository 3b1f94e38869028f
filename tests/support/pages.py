"""The blocks of commands in the pages of the documentation.

A block of a shell (```sh) is run by a test unless a comment above it says why not:

    <!-- not run: it needs a key -->
    <!-- exit: 5 -->                        it is run, and its last command ends with this exit code
    <!-- in a sortie -->                    it is run as the work of a sortie
    <!-- in a sortie with a workspace -->

Lines of a block without a language that begin with `$ ` are commands too; the others are their output.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from scripts import docs
from tests.support.paths import CHECKOUT

BLOCK = re.compile(
    r"(?:^[ ]*<!-- (?P<comment>[^>]+) -->\n)?^(?P<indent>[ ]*)```(?P<language>\w*)[ ]*\n(?P<text>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """`reason`: why it is not run. `exit_code`: of its last command. `place`: "in a sortie" …, or empty."""

    page: str
    line: int
    commands: str
    reason: str
    exit_code: int
    place: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The blocks of commands of a page, in order."""
    return list(_blocks(page, (CHECKOUT / page).read_text()))


def _blocks(page: str, text: str) -> Iterator[Block]:
    for match in BLOCK.finditer(text):
        body = textwrap.dedent(match["text"])
        if match["language"] in {"", "console"} and body.startswith("$ "):
            body = "\n".join(line.removeprefix("$ ") for line in body.splitlines() if line.startswith("$ ")) + "\n"
        elif match["language"] != "sh":
            continue
        comment = match["comment"] or ""
        kind, _, value = comment.partition(": ")
        yield Block(
            page=page,
            line=text.count("\n", 0, match.start("language")) + 1,
            commands=body,
            reason=value if kind == "not run" else "",
            exit_code=int(value) if kind == "exit" else 0,
            place=comment if comment.startswith("in a sortie") else "",
        )


def unlabelled_commands(page: str) -> list[str]:
    """Lines that look like commands in blocks that nothing runs: their block has no language."""
    text = (CHECKOUT / page).read_text()
    commands = []
    for match in BLOCK.finditer(text):
        if match["language"] == "" and not match["text"].lstrip().startswith("$ "):
            commands += re.findall(
                r"^\s*(?:\./)?(?:manage\.py fleet|fleet [a-z]|make [a-z]|curl ).*$", match["text"], re.M
            )
    commands += re.findall(
        r"^ {4,}(?:\./)?(?:manage\.py fleet|fleet [a-z]+ |make [a-z]|curl ).*$", BLOCK.sub("", text), re.M
    )
    return commands


def all_blocks() -> list[Block]:
    return [block for page in docs.pages(CHECKOUT) for block in blocks(page)]


def first_plan(page: str) -> str:
    """The first plan that a page shows."""
    return next(match["text"] for match in BLOCK.finditer((CHECKOUT / page).read_text()) if match["language"] == "yaml")
