"""JSON that is written as it is read, so that a document of any length takes little memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping


def write(write: Callable[[str], object], head: Mapping[str, object], lists: Mapping[str, Iterable[object]]) -> None:
    """One JSON object: the keys of `head`, and those of `lists`, whose items are written one a line as they come."""
    text = json.dumps(dict(head), indent=2)
    write(text.removesuffix("\n}").removesuffix("}"))
    between = "," if head else ""
    for name, items in lists.items():
        write(f"{between}\n  {json.dumps(name)}: ")
        array(write, items, indent=4)
        between = ","
    write("\n}\n")


def array(write: Callable[[str], object], items: Iterable[object], *, indent: int = 2) -> None:
    """One JSON array, without a line's end behind it."""
    write("[")
    between = ""
    for item in items:
        write(f"{between}\n{' ' * indent}{json.dumps(item)}")
        between = ","
    write(f"\n{' ' * (indent - 2)}]" if between else "]")
