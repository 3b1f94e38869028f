"""`fleet init`: creates the folder of a new fleet, for an installation without a checkout."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from importlib.resources import files
from pathlib import Path
from typing import Any

from django.conf import settings

from fleet import errors
from fleet.config import credentials, home, settings_file
from fleet.console import invocation
from fleet.management.operator import OperatorCommand
from missions import folders

TEMPLATES = files("missions") / "management" / "new_fleet"
PLAN = "plan.yaml"


class Command(OperatorCommand):
    help = (
        "Create a new fleet in a folder: its data in .fleet, its settings, and a plan of a first mission. Files that exist "
        "are kept.\n\n"
        "Commands use the fleet of the nearest such folder, from the current one upwards. With FLEET_HOME, or in a "
        "checkout of the project, the folder is fixed, and only a missing settings file is created."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", nargs="?", metavar="FOLDER", help="default: the current folder")

    def act(self, **options: Any) -> int:
        if os.environ.get("FLEET_HOME", "").strip() or home.is_checkout(settings.BASE_DIR):
            return self._init_fixed_home(options["folder"])
        folder = Path(options["folder"] or os.curdir).resolve()
        folders.check_folder(str(folder))
        new = home.Home(folder / home.NAME)
        exists = (new.root / settings_file.NAME).exists()
        credentials.ensure(new)
        home.record_folder(folder)
        self.say(
            f"A fleet already exists in {folder}; its data is kept:" if exists else f"Created a fleet in {folder}:"
        )
        self._create(new.root / settings_file.NAME, "settings, and keys that agents need", of=folder, private=True)
        self._create(folder / PLAN, "the plan of a first mission", of=folder)
        for ignored in (new.root, new.checkpoints("").parent):
            ignored.mkdir(mode=0o700, exist_ok=True)
            _write(ignored / ".gitignore", "*\n")
        self.say("")
        self.say("Next:" if folder == Path.cwd() else f"Next, in {folder}:")
        for command, meaning in (
            (invocation.command("fleet_up", "--detach"), "start Postgres, Valkey, the site and one agent of each type"),
            (invocation.command("fleet_mission", "run", PLAN), "launch the first mission and watch it"),
            (invocation.command("fleet_doctor"), "check this host, if something does not work"),
            (invocation.command("fleet_down"), "stop everything; the data is kept"),
        ):
            self.say(f"  {command:<32} {meaning}")
        return 0

    def _init_fixed_home(self, folder: str | None) -> int:
        root = settings.FLEET_HOME.root
        if folder:
            raise errors.Invalid(
                f"FLEET_HOME or the checkout fixes the fleet's folder to {root}.",
                hint=f"Leave out FOLDER, or set FLEET_HOME={Path(folder).resolve() / home.NAME}.",
            )
        self.say(f"The fleet's folder is {root}:")
        self._create(root / settings_file.NAME, "settings, and keys that agents need", of=root, private=True)
        return 0

    def _create(self, path: Path, meaning: str, *, of: Path, private: bool = False) -> None:
        new = _write(path, TEMPLATES.joinpath(path.name).read_text(encoding="utf-8"), private=private)
        self.say(f"  {path.relative_to(of)!s:<22} {meaning}{'' if new else ' (exists already)'}")


def _write(path: Path, text: str, *, private: bool = False) -> bool:
    """Create a file. Return False if it exists already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return True
