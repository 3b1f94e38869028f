"""What is wrong with a plan: each fault with its place, what is wrong and what to do about it.

All faults are gathered and raised together, so that a plan is mended in one go.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from fleet import errors, humanise
from missions.plan.document.deadline import Deadline, Expired

# A key of a mapping or an index of a list, from the top of the plan downwards.
Path = tuple[str | int, ...]

ADDED = "added by "  # and the key of the sortie whose attempt adds it: the top of the path of what is added

# Reading more than this helps nobody, and a hostile plan could ask for a million.
MAX_FAULTS = 1_000
MAX_NAME = 500  # characters of a part of a path, as the API tells it
# How many names may be compared in all for "Did you mean": a comparison takes about 10 µs.
MAX_COMPARISONS = 50_000
# Of a long word each takes longer, by the square of its length: a word of so many characters counts twice.
LONG_WORD = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A warning about a valid plan. `where` is a dotted path, as in faults: sorties.lint.run."""

    where: str
    text: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text} {self.fix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong. `line` and `column` count from 1 and are None where the plan came without text."""

    line: int | None
    column: int | None
    where: str
    fault: str
    fix: str
    path: Path = ()

    def __str__(self) -> str:
        place = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.where) if part)
        return ": ".join(part for part in (place, f"{self.fault} {self.fix}".strip()) if part)

    def as_problem(self) -> dict[str, str | int | None]:
        """As the API's problems tell it: the place in the plan, and in its text where it came as one. Of sorties that an attempt
        adds, which stand in a list, the name is told."""
        path = self.path
        for index, part in enumerate(path):
            if len(str(part)) > MAX_NAME:  # no plan that is good has such a name: its parent is told
                path = path[:index]
                break
        added = str(path[0]).startswith(ADDED) if path else False
        name = dotted(path[1:]) if added else ""
        return {
            "pointer": "/sorties" if added else "/plan" + "".join(f"/{_escaped(part)}" for part in path),
            "code": "plan",
            "detail": ": ".join(filter(None, (name, f"{self.fault} {self.fix}".strip()))),
            **({"line": self.line, "column": self.column} if self.line else {}),
        }

    def as_json(self) -> dict[str, str | int | None]:
        return {
            "line": self.line,
            "column": self.column,
            "where": self.where,
            "fault": self.fault,
            "fix": self.fix,
        }


def _escaped(part: str | int) -> str:
    """A reference token of a JSON pointer (RFC 6901, section 3)."""
    return str(part).replace("~", "~0").replace("/", "~1")


def too_long(seconds: float) -> Fault:
    """The fault of a plan that nobody has read to its end."""
    fault = f"Reading this plan took longer than {humanise.duration(seconds)}, so it was not read to its end."
    return Fault(line=None, column=None, where="", fault=fault, fix="Split it into several plans.")


class PlanError(errors.Invalid):
    """The plan is not valid."""

    code = "invalid_plan"
    cost_s = 0.0  # of processor time that it took to find, where that was elsewhere

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Faults:
    """Gathers faults. `locate` turns a path into a line and a column, both from 1. `deadline` holds for all who add to them."""

    def __init__(
        self,
        locate: Callable[[Path], tuple[int, int] | None] = lambda path: None,
        *,
        deadline: Deadline | None = None,
    ) -> None:
        self.locate = locate
        self.deadline = deadline or Deadline()
        self.count = 0
        self._found: dict[tuple[int | None, int | None, str, str], Fault] = {}
        self._beyond = 0
        self._comparisons = MAX_COMPARISONS

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, path: Path, fault: str, fix: str = "") -> None:
        line, column = self.locate(path) or (None, None)
        self.add_at(line, column, path, fault, fix)

    def add_at(self, line: int | None, column: int | None, path: Path, fault: str, fix: str = "") -> None:
        self.deadline.check()
        self.count += 1
        if len(self._found) >= MAX_FAULTS:
            self._beyond += 1
            return
        found = Fault(line=line, column=column, where=dotted(path), fault=fault, fix=fix, path=path)
        # An anchor used a hundred times is one fault, not a hundred.
        self._found.setdefault((line, column, found.where if line is None else "", fault), found)

    def resembling(self, word: str, names: Collection[str]) -> str:
        """'Did you mean "…"?' for the name nearest to `word`, or nothing where none is near."""
        word = word[:100]
        cost = len(names) * (1 + len(word) ** 2 // LONG_WORD**2)
        if not names or cost > self._comparisons:
            return ""
        self._comparisons -= cost
        near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
        return f"Did you mean {quoted(near[0])}?" if near else ""

    def suggestion(self, word: str, names: Collection[str]) -> str:
        """The nearest name, or else the list of all names where it is short."""
        near = self.resembling(word, names)
        if near or not names or len(names) > 30:
            return near
        return f"There is {listed(sorted(name[:100] for name in names))}."

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Within this block the deadline holds: PlanError where it passes, whatever else is wrong with the plan."""
        try:
            yield
        except Expired:
            raise PlanError([too_long(self.deadline.seconds)]) from None

    def check(self) -> None:
        """Raises PlanError where there are faults, ordered by line."""
        if self._found:
            self.fail()

    def fail(self, *, at_least: bool = False) -> NoReturn:
        """Raises PlanError. `at_least`: there are more faults, which nobody has counted."""
        found = sorted(self._found.values(), key=lambda fault: (fault.line or 0, fault.column or 0))
        if self._beyond or at_least:
            rest = "There are more faults." if at_least else f"There are {self._beyond:,} more faults."
            found.append(Fault(line=None, column=None, where="", fault=rest, fix="Mend these first."))
        raise PlanError(found)


def dotted(path: Path) -> str:
    """sorties.lint.needs, for ("sorties", "lint", "needs", 0): the line says which item of a list it is."""
    return ".".join(part if part.isidentifier() else quoted(part).strip('"') for part in path if isinstance(part, str))


def quoted(value: object) -> str:
    """A value from the plan, fit to stand in a sentence on a terminal: short, on one line, no control characters."""
    text = value if isinstance(value, str) else repr(value)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:80])
    return f'"{shown}…"' if len(text) > 80 else f'"{shown}"'


def listed(words: Iterable[str], *, joint: str = "and") -> str:
    """one, two and three; "nothing" for no words"""
    *most, last = list(words) or ["nothing"]
    return f"{', '.join(most)} {joint} {last}" if most else last
