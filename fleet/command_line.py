"""The command line, for `fleet`, `python -m fleet` and `manage.py`.

It runs Django's management commands, and handles what can happen to any of them: Ctrl-C while modules load, a closed
pipe, a full disk, another user's folder. At its import it loads only the standard library.
"""

from __future__ import annotations

import difflib
import errno
import os
import signal
import sys
from typing import Any, NoReturn

import fleet
from fleet.console import spelling

WITHOUT_A_FOLDER = ("fleet_init", "help")  # commands that work where there is no fleet
INTERRUPTED = 130


def run() -> None:
    """`main` as a program: the exit code of a command that Ctrl-C ended is 130."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    give_closed_streams_a_place()
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # false under nohup, for example
    if interruptible:  # while modules load: Python can swallow a KeyboardInterrupt raised during an import
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    if os.environ.get("NO_COLOR"):  # https://no-color.org, which Django does not know
        os.environ["DJANGO_COLORS"] = "nocolor"
    try:
        try:
            execute(sys.argv, interruptible=interruptible)
        finally:
            flush_stderr()
            sys.stdout.flush()  # now, while it can still be told that this fails
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


def execute(argv: list[str], *, interruptible: bool) -> None:
    """Run the command that `argv` names, in either spelling."""
    program, *words = argv
    if "_ARGCOMPLETE" not in os.environ and spelling.is_program(program):
        if not words or words in ([word] for word in spelling.HELP):
            sys.stdout.write(f"{spelling.overview()}\n")
            return
        if words in ([word] for word in spelling.VERSION):
            sys.stdout.write(f"{spelling.PROGRAM} {fleet.__version__}\n")
            return

    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import ManagementUtility, get_commands

    from fleet import invocation

    if "_ARGCOMPLETE" in os.environ:
        from fleet.console import completion

        completion.complete()

    class CommandLine(ManagementUtility):
        def fetch_command(self, subcommand: str) -> Any:
            settings.INSTALLED_APPS  # noqa: B018  (if the settings are refused, this says why)
            if subcommand not in (names := get_commands()):
                similar = difflib.get_close_matches(subcommand, [*names, *map(spelling.short, names)], n=1)
                guess = f"Did you mean {invocation.command(spelling.long(similar[0]))}? " if similar else ""
                leave(2, f"There is no command {subcommand!r}. {guess}List them: {invocation.command('help')}")
            command = super().fetch_command(subcommand)
            asks_for_help = not {"-h", "--help"}.isdisjoint(self.argv)
            if settings.FLEET_HOME.missing and not asks_for_help and self.argv[1] not in WITHOUT_A_FOLDER:
                leave(
                    1,
                    f"There is no fleet in {settings.FLEET_HOME.root.parent} or in a folder above it. Create one: "
                    f"{invocation.command('fleet_init')}. To use an existing one, go to its folder, or set FLEET_HOME.",
                )
            if interruptible:  # all is loaded: the command decides what Ctrl-C does
                signal.signal(signal.SIGINT, signal.default_int_handler)
            return command

    try:
        name = spelling.PROGRAM if spelling.is_program(program) else program
        CommandLine([name, *spelling.arguments(words)]).execute()
    except ImproperlyConfigured as fault:
        leave(2, f"The settings are refused: {fault}")


def leave(code: int, why: str = "") -> NoReturn:
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
