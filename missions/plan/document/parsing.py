"""Turns the text of a plan into plain data, with the place of each part in the text.

It consumes YAML events instead of nodes: one pass that limits depth and size as it goes, and is three times as fast as
PyYAML's loader. Scalars follow the core schema of YAML 1.2 (yes, no, on, off and dates are strings). JSON is read the
same way, since JSON is YAML.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from fleet import values
from missions.plan.document.source import Source, line_of, place_of
from missions.plan.problems import Path, Problems, quoted

MAX_NODES = 500_000  # keys and values, with aliases expanded: 10,000 sorties with 20 keys each fit
MAX_EXPANSION = 4  # aliases, matrices and defaults may make the text this many times larger

NUL = "The string contains a NUL character, which neither commands nor the database accept."

_CONSTANTS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z", re.ASCII)
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z", re.ASCII)
_NOT_NUMBERS = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z|-?Infinity\Z|NaN\Z")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE_PAIR = re.compile(r"(\\\\)|\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)
_NO_KEY = object()


def read(*, text: str | bytes, max_bytes: int, problems: Problems) -> Source:
    """Read YAML or JSON. Adds problems to `problems`, and raises PlanError for those that prevent further reading."""
    if len(text) > max_bytes:
        problems.add((), f"The plan has more than {max_bytes:,} bytes.", "Split it into several plans.")
        problems.fail()
    source = Source()
    problems.locate = source.locate
    decoded = _decode(text, problems)
    builder = _Builder(source, problems, max_chars=MAX_EXPANSION * max_bytes)
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


class _Frame:
    """A mapping or list that is being built, with the totals of nodes and characters before it."""

    __slots__ = ("anchor", "at", "chars", "height", "key", "nodes", "places", "value")

    def __init__(self, value: Any, at: Any, anchor: str | None, nodes: int, chars: int) -> None:
        self.value, self.at, self.anchor, self.nodes, self.chars = value, at, anchor, nodes, chars
        self.places: dict[Any, int] = {}
        self.key: Any = _NO_KEY
        self.height = 1

    @property
    def next(self) -> Any:
        """The key or index of the next value; _NO_KEY if a key is expected."""
        return len(self.value) if self.value.__class__ is list else self.key


class _Builder:
    """Builds the data from the parser's events. It keeps an explicit stack, so that no input can exhaust Python's."""

    def __init__(self, source: Source, problems: Problems, *, max_chars: int) -> None:
        self.source, self.problems, self.max_chars = source, problems, max_chars
        self.stack: list[_Frame] = []
        self.nodes = self.chars = 0
        self.anchors: dict[str, tuple[Any, int, int, int]] = {}  # anchor -> value, nodes, characters, height
        self.unread_anchors: set[str] = set()

    def build(self, parser: yaml.CSafeLoader) -> None:
        documents = 0
        while True:
            self.problems.deadline.check()
            event = parser.get_event()
            kind = event.__class__
            if kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._open(event, {} if kind is yaml.MappingStartEvent else [])
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._close()
            elif kind is yaml.AliasEvent:
                self._alias(event)
            elif kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    self._stop(event, "A second document begins here.", 'A plan is one document: remove the "---".')
            elif kind is yaml.StreamEndEvent:
                return

    def _scalar(self, event: Any) -> None:
        text = event.value
        self.chars += len(text)
        if event.anchor:
            self.anchors[event.anchor] = (text, 1, len(text), 0)
            self.unread_anchors.discard(event.anchor)
        if event.tag is not None and event.tag != "!":
            self._tag(event)
            self._add(text, event)
            return
        frame = self.stack[-1] if self.stack else None
        if frame and frame.key is _NO_KEY and frame.value.__class__ is dict:
            value: Any = text
        elif event.implicit[0]:
            value = self._plain(text, event)
        else:
            value = text
        if event.anchor:
            self.anchors[event.anchor] = (value, 1, len(text), 0)
        if "\0" in text:
            self._add_problem(event, NUL, "Remove it.")
        self._add(value, event)

    def _plain(self, text: str, event: Any) -> Any:
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in "0123456789+-.NI":
            return text
        if _INTEGER.match(text):
            if len(text) > 20 or values.scalar_problem(int(text)):
                message = f"The number {quoted(text)} is too large: integers must fit in 64 bits."
                self._unread(event, message, "Put it in quotes if it is a string.")
                return 0
            return int(text)
        if _NUMBER.match(text) and math.isfinite(number := float(text)):
            return number
        if _NOT_NUMBERS.match(text) or _NUMBER.match(text):
            fix = "Use a finite number, or put it in quotes if it is a string."
            self._unread(event, f"{quoted(text)} is not a number that JSON can represent.", fix)
            return 0
        return text

    def _open(self, event: Any, value: Any) -> None:
        self.unread_anchors.discard(event.anchor)
        if event.tag is not None:
            self._tag(event)
        if self.stack and self.stack[-1].key is _NO_KEY and self.stack[-1].value.__class__ is dict:
            fix = "Put a value that starts with {, {{ or [ in quotes."
            self._stop(event, "There is a mapping or list where a key is expected.", fix)
        if len(self.stack) >= values.MAX_DEPTH:
            self._stop(event, f"The plan is nested more than {values.MAX_DEPTH} levels deep.", "Make it flatter.")
        at = self.stack[-1].next if self.stack else _NO_KEY
        frame = _Frame(value, at, event.anchor, self.nodes, self.chars)
        self._add(value, event)
        self.source.places[id(value)] = frame.places
        self.stack.append(frame)

    def _close(self) -> None:
        frame = self.stack.pop()
        if frame.anchor:
            size = (frame.value, self.nodes - frame.nodes, self.chars - frame.chars, frame.height)
            self.anchors[frame.anchor] = size
        if self.stack:
            self.stack[-1].height = max(self.stack[-1].height, frame.height + 1)

    def _alias(self, event: Any) -> None:
        name = event.anchor
        if any(frame.anchor == name for frame in self.stack):
            self._stop(event, f"The alias *{name} contains itself.", "Write the value out.")
        if name not in self.anchors:
            fix = self.problems.suggestion(name, self.anchors) or "Put a value that starts with * in quotes."
            self._stop(event, f"There is no anchor &{name} before this alias.", fix)
        value, nodes, chars, height = self.anchors[name]
        frame = self.stack[-1]
        if frame.key is _NO_KEY and frame.value.__class__ is dict and not isinstance(value, str):
            self._stop(event, f"The alias *{name} is not a string and cannot be a key.", "Write the key out.")
        if name in self.unread_anchors:
            self.source.unread.add((id(frame.value), frame.next))
        self.nodes += nodes
        self.chars += chars
        frame.height = max(frame.height, height + 1)
        if len(self.stack) + height > values.MAX_DEPTH:
            self._stop(event, f"The plan is nested more than {values.MAX_DEPTH} levels deep.", "Make it flatter.")
        self._add(value, event)

    def _add(self, value: Any, event: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            message = f"With its aliases expanded, the plan has more than {MAX_NODES:,} values."
            self._stop(event, message, "Split it into several plans, or use fewer aliases.")
        if self.chars > self.max_chars:
            message = f"With its aliases expanded, the plan has more than {self.max_chars:,} characters."
            self._stop(event, message, "Use fewer aliases.")
        if not self.stack:
            self.source.data = value
            return
        frame, mark = self.stack[-1], event.start_mark
        place = place_of(mark.line + 1, mark.column + 1)
        if frame.value.__class__ is list:
            frame.places[len(frame.value)] = place
            frame.value.append(value)
        elif frame.key is not _NO_KEY:
            frame.value.setdefault(frame.key, value)
            frame.key = _NO_KEY
        else:
            self._key(value, place, frame, event)

    def _key(self, key: str, place: int, frame: _Frame, event: Any) -> None:
        if key in frame.places:
            first = line_of(frame.places[key])
            fix = "Remove or rename one of them."
            self._add_problem(event, f"{quoted(key)} appears twice, first on line {first}.", fix, key)
        elif key == "<<" and event.__class__ is yaml.ScalarEvent and event.implicit[0]:
            fix = "Write the keys out, or move what all sorties share to defaults:."
            self._add_problem(event, "YAML's merge key (<<) is not supported.", fix, key)
            frame.places[key] = place
            if len(self.stack) > 1:  # the keys that it would have merged are missing now
                self.source.unread.add((id(self.stack[-2].value), frame.at))
        else:
            frame.places[key] = place
        frame.key = key

    def _tag(self, event: Any) -> None:
        fix = "Remove it; a value in quotes is a string."
        self._unread(event, f"The tag {quoted(event.tag)} is not supported: a plan has plain values only.", fix)

    def _unread(self, event: Any, message: str, fix: str) -> None:
        """Add a problem of a value that could not be read, and mark the value."""
        self._add_problem(event, message, fix)
        if event.anchor:
            self.unread_anchors.add(event.anchor)
        if self.stack and self.stack[-1].next is not _NO_KEY:
            self.source.unread.add((id(self.stack[-1].value), self.stack[-1].next))

    def _add_problem(self, event: Any, message: str, fix: str, key: Any = _NO_KEY) -> None:
        """Add a problem at the event's place, with the path of the next value, or of `key`."""
        mark = event.start_mark
        last = key if key is not _NO_KEY else self.stack[-1].next if self.stack else _NO_KEY
        path = (*(frame.at for frame in self.stack[1:]), *([] if last is _NO_KEY else [last]))
        self.problems.add_at(mark.line + 1, mark.column + 1, path, message, fix)

    def _stop(self, event: Any, message: str, fix: str) -> None:
        self._add_problem(event, message, fix)
        self.problems.fail()
