"""Hooks of upper layers that run before missions are cancelled or their rows are removed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from uuid import UUID

from django.db import Error

from fleet import registrations
from fleet.errors import FleetError

log = logging.getLogger("fleet.missions")

Hook = Callable[[Sequence[UUID]], None]


class Hooks:
    """Functions that are called with the ids of missions. A failure is logged, and the operation continues.

    An expected failure, such as a full disk, is logged in one line; a bug is logged with its traceback.
    """

    def __init__(self, moment: str) -> None:
        self._moment = moment
        self._hooks: list[Hook] = []

    def register(self, hook: Hook) -> None:
        self._hooks.append(hook)

    def run(self, missions: Sequence[UUID]) -> None:
        registrations.load()
        for hook in self._hooks:
            try:
                hook(missions)
            except (Error, FleetError, OSError) as error:
                log.warning("before %s: %s", self._moment, " ".join(str(error).split()))  # Postgres adds lines of hints
            except Exception:
                log.exception("before %s: a hook failed", self._moment)


before_cancel = Hooks("cancel")
before_cleanup = Hooks("cleanup")
