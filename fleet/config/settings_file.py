"""The settings file `.fleet/settings.env`: settings, and variables that agents need, such as API keys.

It has one NAME=VALUE per line; lines that begin with # are comments. Variables of the environment take precedence. A
process that the fleet itself started does not read the file: it inherits its parent's variables, except those that are
withheld from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from fleet.config.home import Home

NAME = "settings.env"
ALREADY_READ = "FLEET_SETTINGS_READ"  # the path of the file, in the environment of processes that need not read it
_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_PREFIX = "FLEET_"  # reserved for settings
_LOCATIONS = ("FLEET_HOME", "FLEET_PRIVATE")  # needed to find the file (fleet/config/home.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    path: Path
    lines: Mapping[str, int] = field(default_factory=dict)  # name → the number of its line
    places: Mapping[str, str] = field(default_factory=dict)  # name → where its value is, unless the environment has one

    def accept(self, setting_names: Set[str]) -> None:
        """Keep child processes from reading the file again. Raises ImproperlyConfigured if a setting is unknown."""
        for name, number in self.lines.items():
            if name in _LOCATIONS:
                raise ImproperlyConfigured(
                    f"{self.path}, line {number}: {name} is needed to find this file. Set it in the environment."
                )
            if name.startswith(_PREFIX) and name not in setting_names:
                raise ImproperlyConfigured(f"{self.path}, line {number}: there is no setting {name}.")
        if self.lines:
            os.environ[ALREADY_READ] = str(self.path)


def load(home: Home) -> SettingsFile:
    """Add the file's variables to os.environ. Raises ImproperlyConfigured if a line cannot be read."""
    path = home.root / NAME
    if home.missing or os.environ.get(ALREADY_READ) == str(path):
        return SettingsFile(path=path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return SettingsFile(path=path)
    except UnicodeDecodeError as error:
        raise ImproperlyConfigured(f"{path} is not UTF-8.") from error
    lines: dict[str, int] = {}
    places: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if not line or line.startswith("#"):
            continue
        if not (match := _LINE.fullmatch(line)):
            raise ImproperlyConfigured(f"{path}, line {number}: expected NAME=VALUE.")
        name, value = match[1], match[2].strip()
        if value[:1] in {'"', "'"} and value[-1:] == value[:1] and len(value) > 1:
            value = value[1:-1]
        lines[name] = number
        if name not in os.environ:
            os.environ[name] = value
            places[name] = f"{path}, line {number}"
    return SettingsFile(path=path, lines=lines, places=places)
