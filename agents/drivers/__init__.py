"""The drivers, which execute attempts. Their contract: docs/drivers.md.

Other packages call `get` for a driver and use the modules `base` (its types) and `reaper`. What confines an attempt is
in `agents/confinement`. Drivers never name a sortie or a mission, and never touch the database.
"""

from __future__ import annotations

from agents.drivers.base import Driver
from agents.drivers.command import CommandDriver
from agents.drivers.python import PythonDriver
from agents.drivers.scripted import ScriptedDriver
from fleet import errors

_DRIVERS: dict[str, Driver] = {driver.name: driver for driver in (CommandDriver(), PythonDriver(), ScriptedDriver())}


def names() -> tuple[str, ...]:
    """The names of all drivers."""
    return tuple(_DRIVERS)


def get(name: str) -> Driver:
    """Return the driver with this name. Drivers keep no state between attempts, so one instance serves all threads."""
    try:
        return _DRIVERS[name]
    except KeyError:
        raise errors.NotFound(
            f"There is no driver {name!r}.", hint=f"The drivers are: {', '.join(_DRIVERS)}."
        ) from None
