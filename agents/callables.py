"""The registry of Python functions that plans may call by name. Unregistered functions never run.

    from agents.callables import Context, register

    @register                      # its name in plans is "module:function"
    def score(context: Context, *, top: int = 10) -> Json: ...

A module that registers functions must be importable without Django's settings, because they run in a child process that
has neither settings nor credentials.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fleet import errors

Function = TypeVar("Function", bound=Callable[..., Any])

_REGISTERED: dict[str, Callable[..., Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a callable gets: its inputs, and methods to report progress, add sorties and save a value to resume from."""

    needs: Mapping[str, Any]  # upstream results by need name (a list for a matrix)
    inputs: Mapping[str, Any]  # the mission's inputs
    cwd: Path
    scratch: Path  # a private folder, removed after the attempt
    report: Callable[[float | None, str], None] = field(repr=False)
    added: list[dict[str, Any]] = field(default_factory=list, repr=False)
    resume: Any = None  # what an earlier attempt saved; None if nothing
    write_resume: Callable[[Any], None] = field(default=lambda value: None, repr=False)

    def progress(self, fraction: float | None, note: str = "") -> None:
        """Report how much of the work is done, from 0 to 1 (None: unknown), and what it is doing."""
        self.report(fraction, note)

    def save_resume(self, value: Any) -> None:
        """Save a JSON value, which the next attempt gets as `resume`. It replaces any value that was saved before."""
        self.write_resume(value)

    def add(self, *, name: str, agent: str, **keys: Any) -> None:
        """Add a sortie to the mission, with the keys of the plan format. It is added only if this sortie succeeds."""
        self.added.append({"name": name, "agent": agent, **keys})


def register(function: Function) -> Function:
    """Register the function, so that plans can call it as "module:function"."""
    name = f"{function.__module__}:{function.__qualname__}"
    if "." in function.__qualname__:
        raise errors.Invalid(
            f"{name} is not a module-level function.",
            hint="Move it to the top level of its module, so that it can be found by name.",
        )
    _REGISTERED[name] = function
    return function


def load(modules: Iterable[str]) -> None:
    """Import the modules, which register their callables."""
    for module in modules:
        importlib.import_module(module)


def names() -> list[str]:
    """The names of all registered callables, sorted."""
    return sorted(_REGISTERED)


def get(name: str) -> Callable[..., Any]:
    """Return the function registered under this name. Raises NotFound if there is none."""
    try:
        return _REGISTERED[name]
    except KeyError:
        raise errors.NotFound(
            f"There is no callable {name!r}.",
            hint="Decorate it with @register (agents.callables), and list its module in FLEET_CALLABLES"
            " or import it in its app's callables.py.",
        ) from None
