"""Turns the text of a plan into plain data, with the place of each part in the text.

`read` reads YAML and, since JSON is YAML, JSON (yaml_builder.py). `copy` takes data that is already parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from fleet import values
from missions.plan.document.source import Source
from missions.plan.document.yaml_builder import MAX_NODES, NUL, Builder
from missions.plan.problems import Path, Problems, quoted

MAX_EXPANSION = 4  # aliases, matrices and defaults may make the text this many times larger

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE_PAIR = re.compile(r"(\\\\)|\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


def read(*, text: str | bytes, max_bytes: int, problems: Problems) -> Source:
    """Read YAML or JSON. Adds problems to `problems`, and raises PlanError for those that prevent further reading."""
    if len(text) > max_bytes:
        problems.add((), f"The plan has more than {max_bytes:,} bytes.", "Split it into several plans.")
        problems.fail()
    source = Source()
    problems.locate = source.locate
    decoded = _decode(text, problems)
    builder = Builder(source, problems, max_chars=MAX_EXPANSION * max_bytes)
    parser = yaml.CSafeLoader(decoded)
    try:
        builder.build(parser)
    except yaml.YAMLError as error:
        _add_yaml_error(error, decoded, problems)
    return source


def copy(*, data: object, max_bytes: int, problems: Problems) -> Source:
    """Copy data that is already parsed (from the API, for example), under the same limits. It has no line numbers."""
    source = Source()
    count = chars = 0
    unread: list[Path] = []

    def refuse(path: Path, message: str, fix: str) -> None:
        problems.add(path, message, fix)
        unread.append(path)

    def copy_value(value: object, path: Path) -> Any:
        nonlocal count, chars
        problems.deadline.check()
        count += 1
        if count > MAX_NODES:
            problems.add((), f"The plan has more than {MAX_NODES:,} values.", "Split it into several plans.")
            problems.fail()
        if len(path) > values.MAX_DEPTH:
            problems.add(path[:4], f"The plan is nested more than {values.MAX_DEPTH} levels deep.", "Make it flatter.")
            problems.fail()
        match value:
            case None | bool():
                return value
            case str():
                chars += len(value)
                if chars > max_bytes:
                    problems.add((), f"The plan has more than {max_bytes:,} bytes.", "Split it into several plans.")
                    problems.fail()
                _check_text(value, path, problems)
                return str(value)
            case int() | float():
                if problem := values.scalar_problem(value):
                    refuse(path, f"The number {problem}.", "Put it in quotes if it is a string.")
                    return 0
                return value
            case Mapping():
                mapping = {}
                for key, item in value.items():
                    if not isinstance(key, str):
                        problems.add(path, f"The key {quoted(key)} is not a string.", "Put it in quotes.")
                        continue
                    mapping[copy_value(key, path)] = copy_value(item, (*path, key))
                return mapping
            case list() | tuple():
                return [copy_value(item, (*path, index)) for index, item in enumerate(value)]
            case _:
                kind = type(value).__name__
                refuse(path, f"A plan cannot contain a value of type {kind}.", "Use JSON values only.")
                return None

    source.data = copy_value(data, ())
    for path in unread:
        container = source.data
        for part in path[:-1]:
            container = container[part]
        source.unread.update((id(container), part) for part in path[-1:])
    return source


def _decode(text: str | bytes, problems: Problems) -> str:
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            problems.add_at(line, None, (), "The plan is not UTF-8 text.", "Save it as UTF-8.")
            problems.fail()
    text = text.removeprefix("\ufeff")
    if match := _FORBIDDEN.search(text):
        line, column = _place(text, match.start())
        character = f"U+{ord(match.group()):04X}"
        problems.add_at(line, column, (), f"A plan cannot contain the character {character}.", "Remove it.")
        problems.fail()
    if text.lstrip().startswith("{") and _SURROGATE_PAIR.search(text):
        text = _join_surrogates(text)
    return text


def _join_surrogates(text: str) -> str:
    """Replace pairs of \\u escapes, by which JSON writes characters beyond U+FFFF: YAML does not support them."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text

    def join(match: re.Match[str]) -> str:
        if match[1]:
            return match[1]
        return (int(match[2], 16).to_bytes(2, "big") + int(match[3], 16).to_bytes(2, "big")).decode("utf-16-be")

    return _SURROGATE_PAIR.sub(join, text)


def _place(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _check_text(text: str, path: Path, problems: Problems) -> None:
    if "\0" in text:
        problems.add(path, NUL, "Remove it.")
    elif problem := values.scalar_problem(text):
        problems.add(path, f"The string {problem}.", "Remove it.")


def _add_yaml_error(error: yaml.YAMLError, text: str, problems: Problems) -> None:
    """Add the problem of a text that is not YAML, with a fix for the common mistakes, and raise PlanError."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "the text cannot be read"
    context = getattr(error, "context", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
    lines = text.split("\n", mark.line + 1) if mark else []
    faulty_line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "{{" in faulty_line:
        fix = "Put a value with {{ }} in quotes."
    elif "\t" in faulty_line[: (column or 0)] and not faulty_line[: (column or 1) - 1].strip():
        fix = "Indent with spaces: YAML does not allow tabs."
    elif "mapping values" in problem:
        fix = 'Put a value that contains ": " in quotes, or check the indentation.'
    elif "cannot start any token" in problem:
        fix = "Put a value that starts with a special character (%, @, `) in quotes."
    elif "quoted scalar" in (context or ""):
        fix = "Check the quotes and backslashes; within single quotes a backslash is literal."
    else:
        fix = "Check the indentation, quotes and brackets on this line and on the one before."
    problems.add_at(line, column, (), f"This cannot be read: {', '.join(p for p in (context, problem) if p)}.", fix)
    problems.fail()
