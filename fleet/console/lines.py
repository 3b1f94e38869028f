"""Lines of text for people: they fit a terminal of any width, and are whole where there is none."""

from __future__ import annotations

import re
import shutil
import textwrap

from django.core.management.base import OutputWrapper

COLOURS = re.compile("\x1b\\[[0-9;]*m")  # ECMA-48, "select graphic rendition"
NARROW = 100  # columns below which names are not padded to stand in a row


def one(text: object) -> str:
    """A text on one line that a terminal takes for nothing but text."""
    return "".join(c if c.isprintable() else " " for c in " ".join(str(text).split()))


def counted(number: int, what: str) -> str:
    """`1 sortie`, `2,000 sorties`"""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def printed(text: str) -> str:
    """What some process printed, for a terminal: its lines stay, its colours go, and what else could steer a terminal
    is made visible (␛ for an escape, say)."""
    return "".join(c if c.isprintable() or c in "\n\t" else _visible(c) for c in COLOURS.sub("", text))


def _visible(character: str) -> str:
    if character == "\r":
        return ""
    return chr(0x2400 + ord(character)) if ord(character) < 0x20 else "�"


def columns(out: OutputWrapper) -> int | None:
    """The width of the terminal; None where it is none, and lines may be of any length."""
    return shutil.get_terminal_size().columns if out.isatty() else None


def fitted(text: str, *, width: int | None, indent: int = 4) -> str:
    """A line broken between words to fit the width, the further lines indented. Nothing of it is lost."""
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


def padded(text: str, to: int, *, width: int | None) -> str:
    """Padded, unless the terminal is too narrow for columns."""
    return text if width is not None and width < NARROW else f"{text:<{to}}"
