#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""The fleet's command line: `manage.py help` lists the commands; those of the fleet begin with `fleet_`."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ImportError:
        use_the_environment_of_this_folder()
        sys.exit("Django is not installed here. Run `make install`, then use .venv/bin/python manage.py …")
    if "_ARGCOMPLETE" in os.environ:
        from fleet.console import completion

        completion.complete()
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as fault:
        sys.stderr.write(f"The settings are refused: {fault}\n")
        sys.exit(2)
    except PermissionError as fault:
        sys.stderr.write(
            f"You may not use {fault.filename} ({fault.strerror}). A fleet's folder is for the user who started it: "
            "become that user, or name a folder of your own with FLEET_HOME.\n"
        )
        sys.exit(4)


def use_the_environment_of_this_folder() -> None:
    """Start again with .venv's Python, where there is one and this is another: `./manage.py` works without activation."""
    environment = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".venv")
    python = os.path.join(environment, "bin", "python")
    if os.path.exists(python) and os.path.realpath(sys.prefix) != os.path.realpath(environment):
        os.execv(python, [python, *sys.argv])


if __name__ == "__main__":
    main()
