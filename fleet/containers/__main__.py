"""`python -m fleet.containers ROLE`: wait for what the role needs, then become its program."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from fleet import errors
from fleet.containers import roles, waiting
from fleet.postgres import pool
from fleet.services.supervision import beats

USAGE = f"Usage: python -m fleet.containers {{{','.join(roles.ROLES)}}}"


def main(arguments: Sequence[str]) -> int:
    """Run one command of the image; returns its exit code unless it becomes the role's program."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    try:
        match arguments:
            case [name]:
                _become(roles.find(name))
            case _:
                raise errors.Invalid(USAGE)
    except ImproperlyConfigured as error:
        _say(f"Invalid settings: {error}")
        return 2
    except errors.FleetError as error:
        _say(str(error))
        return error.exit_code
    return 0


def _become(role: roles.ContainerRole) -> None:
    """Wait for what the role needs, and replace this process with its program."""
    waiting.wait(
        role.needs,
        endpoints=settings.FLEET_ENDPOINTS,
        base=settings.BASE_DIR,
        seconds=settings.FLEET_WAIT_S,
        say=lambda line: _say(f"{role.name}: {line}"),
    )
    if role.name == "web":
        os.environ["FLEET_PROCESS"] = pool.WEB
    beats.clear(settings.FLEET_HOME, f"fleet_{role.name}")
    os.chdir(settings.BASE_DIR)
    os.execv(role.argv[0], role.argv)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
