#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""The fleet's command line: `manage.py help` lists the commands; those of the fleet begin with `fleet_`."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed here. Run `make install`, then use .venv/bin/python manage.py …")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
