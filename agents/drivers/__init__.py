"""How attempts are really done. The contract: docs/drivers.md."""

from __future__ import annotations

from agents.drivers.base import Driver
from agents.drivers.command import CommandDriver
from agents.drivers.python import PythonDriver
from agents.drivers.scripted import ScriptedDriver
from fleet import errors

_DRIVERS: dict[str, Driver] = {driver.name: driver for driver in (CommandDriver(), PythonDriver(), ScriptedDriver())}


def names() -> tuple[str, ...]:
    return tuple(_DRIVERS)


def get(name: str) -> Driver:
    """The driver of that name. Drivers keep nothing between attempts, so one instance serves all threads."""
    try:
        return _DRIVERS[name]
    except KeyError:
        raise errors.NotFound(
            f"There is no driver {name!r}.", hint=f"The drivers are: {', '.join(_DRIVERS)}."
        ) from None
