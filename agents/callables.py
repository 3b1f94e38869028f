"""The Python functions that sorties may call, by name: only what is registered runs.

    from agents.callables import Context, register

    @register                      # its name in plans is "module:function"
    def score(context: Context, *, top: int = 10) -> Json: ...

A module that registers must be importable without Django's settings: the work is done in a child process that has
neither settings nor credentials.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fleet import errors

Work = TypeVar("Work", bound=Callable[..., Any])

_REGISTERED: dict[str, Callable[..., Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a callable is told, and how it tells."""

    needs: Mapping[str, Any]  # upstream results by need name (a list for a matrix)
    inputs: Mapping[str, Any]  # the mission's inputs
    cwd: Path
    scratch: Path  # a private folder, removed afterwards
    report: Callable[[float | None, str], None] = field(repr=False)
    added: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def progress(self, fraction: float | None, note: str = "") -> None:
        """Say how far the work is, from 0 to 1 (None: unknown), and what is being done."""
        self.report(fraction, note)

    def add(self, *, name: str, agent: str, **keys: Any) -> None:
        """Ask for one more sortie, in the keys of the plan format; accepted only if this one succeeds."""
        self.added.append({"name": name, "agent": agent, **keys})


def register(work: Work) -> Work:
    """Let plans call the function as "module:function"."""
    if "." in work.__qualname__:
        raise errors.Invalid(
            f"{work.__module__}:{work.__qualname__} is not a function of a module.",
            hint="Move it to the top of its module, where its name can find it.",
        )
    _REGISTERED[f"{work.__module__}:{work.__qualname__}"] = work
    return work


def load(modules: Iterable[str]) -> None:
    """Import the modules, which register what they offer. What an import raises is raised."""
    for module in modules:
        importlib.import_module(module)


def names() -> list[str]:
    """The names that plans may call, sorted."""
    return sorted(_REGISTERED)


def get(name: str) -> Callable[..., Any]:
    """The registered function; NotFound if there is none of that name."""
    try:
        return _REGISTERED[name]
    except KeyError:
        raise errors.NotFound(
            f"There is no callable {name!r}.",
            hint="Put @register (agents.callables) on it, and name its module in FLEET_CALLABLES"
            " or import it in its app's callables.py.",
        ) from None
