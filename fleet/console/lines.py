"""Formats lines of text for people: fitted to the width of a terminal, and neither wrapped nor cut in a pipe."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO, cast

from django.core.management.base import OutputWrapper
from django.template.defaultfilters import filesizeformat

Say = Callable[[str], None]  # shows one line of progress
_COLOUR = re.compile("\x1b\\[[0-9;]*m")  # ECMA-48, "select graphic rendition"
_PLAIN = re.compile("[\t\n\x20-\x7e]*")
NARROW = 100  # on a terminal with fewer columns, text is not padded into columns


def one_line(text: object) -> str:
    """Put text on one line, without characters that could control the terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(str(text).split()))


def counted(number: int, noun: str) -> str:
    """`1 sortie`, `2,000 sorties`"""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """`812 bytes`, `1.2 KB`, `3.4 MB`, as in the admin, but with plain spaces."""
    return filesizeformat(number).replace("\xa0", " ")


def terminal_safe(text: str) -> str:
    """Make the output of another process safe for a terminal: keep lines, drop colours, show other control characters.

    An escape, for example, becomes ␛.
    """
    if _PLAIN.fullmatch(text):
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _visible(c) for c in _COLOUR.sub("", text))


def _visible(character: str) -> str:
    if character == "\r":
        return ""
    return chr(0x2400 + ord(character)) if ord(character) < 0x20 else "�"


class SafeOutput(OutputWrapper):
    """The output of a command, in which text of others (names, messages, logs) cannot control the terminal."""

    @classmethod
    def of(cls, out: OutputWrapper) -> SafeOutput:
        safe = cls(cast(TextIO, out._out), ending=out.ending)
        safe.style_func = out.style_func
        return safe

    def write(  # type: ignore[override]  # as that of OutputWrapper
        self, msg: str = "", style_func: Callable[[str], str] | None = None, ending: str | None = None
    ) -> None:
        super().write(terminal_safe(msg), style_func, ending)


def columns(out: OutputWrapper) -> int | None:
    """Return the width of the terminal; None if the output is not a terminal, so that lines may have any length."""
    return shutil.get_terminal_size().columns if out.isatty() else None


def fitted(text: str, *, width: int | None, indent: int = 4) -> str:
    """Wrap a line between words to fit the width, and indent the further lines. Nothing is cut off."""
    if width is None or len(text) <= width:
        return text
    return "\n".join(
        textwrap.wrap(
            text,
            width=max(20, width),
            subsequent_indent=" " * indent,
            replace_whitespace=False,
            break_on_hyphens=False,
        )
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, width: int | None) -> Iterator[str]:
    """Yield the lines of a table. On a terminal that is too narrow for columns, rows are not aligned, but wrapped."""
    cells = [header, *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if width is not None and sum(widths[:-1]) + 2 * len(widths) > width:
        widths = [0] * len(widths)
    for row in cells:
        line = "  ".join(cell.ljust(to) for cell, to in zip(row, widths, strict=True))
        yield fitted(line.rstrip(), width=width)


def padded(text: str, to: int, *, width: int | None) -> str:
    """Pad text to a column, unless the terminal is too narrow for columns."""
    return text if width is not None and width < NARROW else f"{text:<{to}}"
