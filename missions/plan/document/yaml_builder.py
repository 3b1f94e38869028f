"""Builds the data of a plan from the events of a YAML parser.

It consumes events instead of nodes: one pass that limits depth and size as it goes, and is three times as fast as
PyYAML's loader. Scalars follow the core schema of YAML 1.2 (yes, no, on, off and dates are strings).
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from fleet import values
from missions.plan.document.source import Source, line_of, place_of
from missions.plan.problems import Problems, quoted

MAX_NODES = 500_000  # keys and values, with aliases expanded: 10,000 sorties with 20 keys each fit
NUL = "The string contains a NUL character, which neither commands nor the database accept."

_CONSTANTS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z", re.ASCII)
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z", re.ASCII)
_NOT_NUMBERS = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z|-?Infinity\Z|NaN\Z")
_NO_KEY = object()


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


class Builder:
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
