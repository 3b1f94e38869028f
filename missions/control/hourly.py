"""The hourly duties of the control process, which run in its background thread."""

from __future__ import annotations

from missions.control import background
from missions.operations.workspaces import tidying

HOUR_S = 3_600


def register() -> None:
    background.register(name="copies of repositories", run=tidying.tidy, every_s=HOUR_S)
