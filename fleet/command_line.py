"""The command line, for `fleet`, `python -m fleet` and `manage.py`.

It runs Django's management commands, and handles what can happen to any of them: Ctrl-C while modules load, a closed
pipe, a full disk, another user's folder. Importing it loads only the standard library.
"""

from __future__ import annotations

import difflib
import errno
import gc
import os
import signal
import sys
from typing import Any, NoReturn

import fleet
from fleet.console import spelling

WITHOUT_A_FOLDER = ("fleet_init", "help")  # commands that work where there is no fleet
INTERRUPTED = 130


def run() -> None:
    """Run `main`, and exit with 130 after Ctrl-C."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def main() -> None:
    gc.disable()  # while modules load: modules are not garbage, and each collection delays the start
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    reopen_closed_streams()
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
            sys.stdout.flush()  # now, while a failure can still be reported
    except BrokenPipeError:  # the reader of our output has closed it, as `| head` does
        discard_stdout()
        exit_with(141)
    except PermissionError as error:
        exit_with(
            4,
            f"You are not allowed to use {error.filename} ({error.strerror}). A fleet's folder belongs to the user who "
            "started it: run this as that user, or set FLEET_HOME to a folder of your own.",
        )
    except OSError as error:
        if not (reason := _explain(error)):
            raise
        discard_stdout()
        exit_with(1, reason)


def _explain(error: OSError) -> str:
    """What a user can do about an error of the file system; empty for other errors."""
    if error.errno == errno.EROFS:
        where = f"The folder {os.path.dirname(str(error.filename))}" if error.filename else "A folder"
        return (
            f"{where} cannot be written, because it is on a read-only file system: remount it read-write, or set "
            "FLEET_HOME to a folder that can be written."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "the output or the fleet's folder"
        return f"{error.strerror}: {where} could not be written. Free some space, and try again."
    if str(error.strerror).startswith("No usable temporary directory"):  # by tempfile
        return f"{error.strerror}. Set TMPDIR to a folder that can be written."
    return ""


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

    import django
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import ManagementUtility, get_commands

    from fleet.console import invocation

    if "_ARGCOMPLETE" in os.environ:
        from fleet.console import completion

        completion.complete()

    class CommandLine(ManagementUtility):
        def execute(self) -> None:
            """Run the fleet's commands directly: Django would obey `--settings` before the command can refuse it."""
            name = self.argv[1] if len(self.argv) > 1 else ""
            if spelling.short(name) in spelling.COMMANDS:
                django.setup()
                self.fetch_command(name).run_from_argv(self.argv)
            else:
                super().execute()

        def fetch_command(self, subcommand: str) -> Any:
            settings.INSTALLED_APPS  # noqa: B018  (raises, with the reason, if the settings are invalid)
            if subcommand not in (names := get_commands()):
                similar = difflib.get_close_matches(subcommand, [*names, *map(spelling.short, names)], n=1)
                guess = f"Did you mean {invocation.command(spelling.long(similar[0]))}? " if similar else ""
                exit_with(2, f"There is no command {subcommand!r}. {guess}List them: {invocation.command('help')}")
            command = super().fetch_command(subcommand)
            asks_for_help = not {"-h", "--help"}.isdisjoint(self.argv)
            if settings.FLEET_HOME.missing and not asks_for_help and self.argv[1] not in WITHOUT_A_FOLDER:
                exit_with(
                    1,
                    f"There is no fleet in {settings.FLEET_HOME.root.parent} or in a folder above it. Create one: "
                    f"{invocation.command('fleet_init')}. To use an existing one, go to its folder, or set FLEET_HOME.",
                )
            gc.freeze()
            gc.enable()
            if interruptible:  # everything is loaded: the command decides what Ctrl-C does
                signal.signal(signal.SIGINT, signal.default_int_handler)
            return command

    try:
        name = spelling.PROGRAM if spelling.is_program(program) else program
        CommandLine([name, *spelling.arguments(words)]).execute()
    except ImproperlyConfigured as error:
        exit_with(2, f"Invalid settings: {error}")
    except ModuleNotFoundError as error:
        if not f"{os.environ['DJANGO_SETTINGS_MODULE']}.".startswith(f"{error.name}."):
            raise
        exit_with(2, f"Invalid settings: {error}")
    except Exception as error:  # the fleet's own commands report what they lack; this is for Django's
        import psycopg

        cause = error.__cause__ or error
        if not isinstance(cause, psycopg.OperationalError) or cause.sqlstate:
            raise
        from fleet.services import outages

        exit_with(1, str(outages.postgres_unavailable(cause)))


def exit_with(code: int, message: str = "") -> NoReturn:
    if message:
        sys.stderr.write(f"{message}\n")
    sys.exit(code)


def reopen_closed_streams() -> None:
    """Open closed standard streams (`>&-`) on /dev/null. Otherwise the next open file would get their descriptor."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  (as long as the process lives)


def discard_stdout() -> None:
    """Send the rest of stdout to /dev/null. Python flushes it once more at its end, and would report the same error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush_stderr() -> None:
    """Flush stderr, or discard it if its reader has closed it: otherwise Python would always exit with 120."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
