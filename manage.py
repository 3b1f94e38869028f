#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""The command line of a checkout, which finds .venv by itself. A link named `fleet` takes the short spelling, too."""

import importlib.util
import os
import sys


def main() -> None:
    if importlib.util.find_spec("django") is None:
        use_the_environment_of_this_folder()
        sys.exit("Django is not installed here. Install it: make install")
    from fleet import command_line

    command_line.main()


def use_the_environment_of_this_folder() -> None:
    """Start again with .venv's Python, where there is one and this is another: `./manage.py` works without activation."""
    environment = os.path.join(os.path.dirname(os.path.realpath(__file__)), ".venv")  # a link on PATH is fine
    python = os.path.join(environment, "bin", "python")
    try:
        os.stat(python)
    except PermissionError:
        sys.stderr.write(
            f"You are not allowed to use {os.path.realpath(python)}, the Python of {environment}. Clone the project into "
            "a folder of your own and run `make install` there, or have .venv made with a Python that all users can run.\n"
        )
        sys.exit(4)
    except OSError:
        return
    if os.path.realpath(sys.prefix) != os.path.realpath(environment):
        os.execv(python, [python, *sys.argv])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
