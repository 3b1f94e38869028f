#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""The fleet's command line: `manage.py help` lists the commands; those of the fleet begin with `fleet_`."""

import errno
import os
import signal
import sys
from typing import Any


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    give_closed_streams_a_place()
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # false under nohup, for example
    if interruptible:  # while modules load: Python can swallow a KeyboardInterrupt raised during an import
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    if os.environ.get("NO_COLOR"):  # https://no-color.org, which Django does not know
        os.environ["DJANGO_COLORS"] = "nocolor"
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import ManagementUtility
    except ImportError:
        use_the_environment_of_this_folder()
        sys.exit("Django is not installed here. Install it: make install")
    if "_ARGCOMPLETE" in os.environ:
        from fleet.console import completion

        completion.complete()

    class CommandLine(ManagementUtility):
        def fetch_command(self, subcommand: str) -> Any:
            command = super().fetch_command(subcommand)
            if interruptible:  # all is loaded: the command decides what Ctrl-C does
                signal.signal(signal.SIGINT, signal.default_int_handler)
            return command

    try:
        try:
            CommandLine(sys.argv).execute()
        finally:
            flush_stderr()
            sys.stdout.flush()  # now, while it can still be told that this fails
    except ImproperlyConfigured as fault:
        leave(2, f"The settings are refused: {fault}")
    except BrokenPipeError:  # whoever read our output has enough of it, as `| head` has
        drop_the_output()
        leave(141)
    except PermissionError as fault:
        leave(
            4,
            f"You may not use {fault.filename} ({fault.strerror}). A fleet's folder is for the user who started it: "
            "become that user, or name a folder of your own with FLEET_HOME.",
        )
    except OSError as fault:
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        drop_the_output()
        where = fault.filename or "the output or the fleet's folder"
        leave(1, f"{fault.strerror}: {where} could not be written. Make room there, and try again.")


def leave(code: int, why: str = "") -> None:
    if why:
        sys.stderr.write(f"{why}\n")
    sys.exit(code)


def give_closed_streams_a_place() -> None:
    """What a shell has closed (`>&-`) leads nowhere; or else the next file or connection would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  (as long as the process lives)


def drop_the_output() -> None:
    """Python flushes once more at its end, and would complain of the same."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush_stderr() -> None:
    """Nobody may read stderr any more. Python would then end with exit code 120, whatever the command's was."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def use_the_environment_of_this_folder() -> None:
    """Start again with .venv's Python, where there is one and this is another: `./manage.py` works without activation."""
    environment = os.path.join(os.path.dirname(os.path.realpath(__file__)), ".venv")  # a link on PATH is fine
    python = os.path.join(environment, "bin", "python")
    try:
        os.stat(python)
    except PermissionError:
        leave(
            4,
            f"You may not use {os.path.realpath(python)}, the Python of {environment}. Clone the project into a folder "
            "of your own and run `make install` there, or have .venv made with a Python that everybody may run.",
        )
    except OSError:
        return
    if os.path.realpath(sys.prefix) != os.path.realpath(environment):
        os.execv(python, [python, *sys.argv])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
