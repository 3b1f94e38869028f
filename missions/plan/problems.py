"""Problems of a plan: the place of each, what is wrong, and how to fix it.

All problems are collected and raised together, so that a plan can be fixed in one go.
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

ADDED = "added by "  # followed by the key of the adding sortie: the first part of the path of an added sortie

MAX_PROBLEMS = 1_000  # nobody reads more, and a hostile plan could have a million
MAX_NAME = 500  # characters of a part of a path in the API's problems
# Comparisons for "Did you mean" in all of a plan; one takes about 10 µs.
MAX_COMPARISONS = 50_000
# The cost of a comparison grows with the square of the word's length: a word of this length counts as two.
LONG_WORD = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A warning about a valid plan. `where` is a dotted path, as in problems: sorties.lint.run."""

    where: str
    text: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text} {self.fix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProblem:
    """One problem. `line` and `column` count from 1; they are None if the plan was given as data."""

    line: int | None
    column: int | None
    where: str
    message: str
    fix: str
    path: Path = ()

    def __str__(self) -> str:
        place = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.where) if part)
        return ": ".join(part for part in (place, f"{self.message} {self.fix}".strip()) if part)

    def as_api_error(self) -> dict[str, str | int | None]:
        """An error of the API's problem documents: a JSON pointer, and line and column if the plan came as text.

        Sorties that an attempt adds are items of a list: the pointer names the list, and the detail the sortie.
        """
        path = self.path
        for index, part in enumerate(path):
            if len(str(part)) > MAX_NAME:  # no valid name is that long: point at its parent
                path = path[:index]
                break
        added = str(path[0]).startswith(ADDED) if path else False
        name = dotted(path[1:]) if added else ""
        return {
            "pointer": "/sorties" if added else "/plan" + "".join(f"/{_escaped(part)}" for part in path),
            "code": "plan",
            "detail": ": ".join(filter(None, (name, f"{self.message} {self.fix}".strip()))),
            **({"line": self.line, "column": self.column} if self.line else {}),
        }

    def as_json(self) -> dict[str, str | int | None]:
        return {
            "line": self.line,
            "column": self.column,
            "where": self.where,
            "message": self.message,
            "fix": self.fix,
        }


def _escaped(part: str | int) -> str:
    """A reference token of a JSON pointer (RFC 6901, section 3)."""
    return str(part).replace("~", "~0").replace("/", "~1")


def too_long(seconds: float) -> PlanProblem:
    """The problem of a plan that takes longer to read than is allowed."""
    message = f"Reading this plan took longer than {humanise.duration(seconds)} and was stopped."
    return PlanProblem(line=None, column=None, where="", message=message, fix="Split it into several plans.")


class PlanError(errors.Invalid):
    """The plan is not valid."""

    code = "invalid_plan"
    cost_s = 0.0  # CPU time spent by another process to find the problems

    def __init__(self, problems: Iterable[PlanProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Problems:
    """Collects problems. `locate` turns a path into a line and a column, both from 1. All checks share `deadline`."""

    def __init__(
        self,
        locate: Callable[[Path], tuple[int, int] | None] = lambda path: None,
        *,
        deadline: Deadline | None = None,
    ) -> None:
        self.locate = locate
        self.deadline = deadline or Deadline()
        self.count = 0
        self._problems: dict[tuple[int | None, int | None, str, str], PlanProblem] = {}
        self._omitted = 0
        self._comparisons = MAX_COMPARISONS

    def __bool__(self) -> bool:
        return bool(self._problems)

    def add(self, path: Path, message: str, fix: str = "") -> None:
        line, column = self.locate(path) or (None, None)
        self.add_at(line, column, path, message, fix)

    def add_at(self, line: int | None, column: int | None, path: Path, message: str, fix: str = "") -> None:
        self.deadline.check()
        self.count += 1
        if len(self._problems) >= MAX_PROBLEMS:
            self._omitted += 1
            return
        where = dotted(path)
        # An anchor used a hundred times is one problem, not a hundred.
        key = (line, column, where if line is None else "", message)
        self._problems.setdefault(
            key, PlanProblem(line=line, column=column, where=where, message=message, fix=fix, path=path)
        )

    def did_you_mean(self, word: str, names: Collection[str]) -> str:
        """'Did you mean "…"?' with the name closest to `word`; "" if none is close."""
        word = word[:100]
        cost = len(names) * (1 + len(word) ** 2 // LONG_WORD**2)
        if not names or cost > self._comparisons:
            return ""
        self._comparisons -= cost
        near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
        return f"Did you mean {quoted(near[0])}?" if near else ""

    def suggestion(self, word: str, names: Collection[str]) -> str:
        """The closest name, or else the list of all names if it is short."""
        closest = self.did_you_mean(word, names)
        if closest or not names or len(names) > 30:
            return closest
        return f"Use {listed(sorted(name[:100] for name in names), joint='or')}."

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Turn an expired deadline within this block into a PlanError."""
        try:
            yield
        except Expired:
            raise PlanError([too_long(self.deadline.seconds)]) from None

    def check(self) -> None:
        """Raise PlanError if there are problems."""
        if self._problems:
            self.fail()

    def fail(self, *, incomplete: bool = False) -> NoReturn:
        """Raise PlanError with the problems ordered by line. `incomplete`: there are more that were not counted."""
        problems = sorted(self._problems.values(), key=lambda problem: (problem.line or 0, problem.column or 0))
        if self._omitted or incomplete:
            more = "There are more errors." if incomplete else f"There are {self._omitted:,} more errors."
            problems.append(PlanProblem(line=None, column=None, where="", message=more, fix="Fix these first."))
        raise PlanError(problems)


def dotted(path: Path) -> str:
    """sorties.lint.needs for ("sorties", "lint", "needs", 0), because the line already locates the item of a list."""
    return ".".join(part if part.isidentifier() else quoted(part).strip('"') for part in path if isinstance(part, str))


def quoted(value: object) -> str:
    """A value from the plan as part of a sentence: in quotes, short, on one line, without control characters."""
    text = value if isinstance(value, str) else repr(value)
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:80])
    return f'"{safe}…"' if len(text) > 80 else f'"{safe}"'


def listed(words: Iterable[str], *, joint: str = "and") -> str:
    """one, two and three; "nothing" for no words"""
    *most, last = list(words) or ["nothing"]
    return f"{', '.join(most)} {joint} {last}" if most else last
