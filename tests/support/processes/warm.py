"""Runs `manage.py` commands in forks of a process that has already imported the libraries.

`manage.py` takes a second to start, which adds up to half a minute in a test that runs thirty commands. Each command
has its own process and environment.

By default the forked process has not read any settings. With `WarmProcess(env)` it has read those of `env`, which is faster
still, but then they cannot be changed.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from tests.support.paths import CHECKOUT
from tests.support.processes import child_coverage, warm_client

LIBRARIES = (
    *("celery.app.base", "django.contrib.messages", "django.core.management", "django.core.serializers.json"),
    *(
        "django.db.backends.postgresql.psycopg_any",
        "django.db.migrations.autodetector",
        "django.db.models",
        "django.forms",
    ),
    *("django.http", "django.template.engine", "django.test.client", "django.utils.autoreload", "django.views.generic"),
    *("jsonschema_rs", "kombu.transport.redis", "prometheus_client", "psutil", "psycopg", "redis", "rich.traceback"),
    *("requests", "sqlparse", "structlog", "yaml"),
)


class WarmProcess:
    """The client of a process that forks one child per command.

    With `env`, that process has read the settings of this environment.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self.env = env
        self._folder = tempfile.TemporaryDirectory(prefix="fleet-warm-")
        self.address = str(Path(self._folder.name, "socket"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.address)
            listener.listen(16)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.processes.warm", str(listener.fileno())],
                cwd=CHECKOUT, stdin=subprocess.PIPE, text=True, bufsize=1, pass_fds=[listener.fileno()],
            )  # fmt: skip
        # Not as an argument, because the process would then look like one of the fleet of `env`.
        self._input.write(json.dumps(env and dict(env)) + "\n")

    @property
    def _input(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def manage(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = CHECKOUT, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run `manage.py` with these arguments. Returns and raises the same as `subprocess.run`."""
        argv = ["manage.py", *arguments]
        with open(os.devnull) as null, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            streams = (null.fileno(), out.fileno(), err.fileno())
            command = warm_client.start(self.address, argv, env=env, cwd=str(cwd), streams=streams)
            with command.connection:
                try:
                    code, timed_out = command.wait(timeout_s=timeout), False
                except TimeoutError:
                    os.kill(command.pid, signal.SIGKILL)
                    code, timed_out = command.wait(), True
            out.seek(0)
            err.seek(0)
            if timed_out:
                raise subprocess.TimeoutExpired(argv, timeout, out.read(), err.read())
            return subprocess.CompletedProcess(argv, code, out.read().decode(), err.read().decode(errors="replace"))

    def write_program(self, path: Path) -> None:
        """Write a program that runs commands here if they have these settings, and as `manage.py` otherwise."""
        settings = warm_client.settings_of(self.env or {})
        path.write_text(
            f"#!{sys.executable} -IS\nimport sys\nsys.path.insert(0, {str(CHECKOUT)!r})\n"
            "from tests.support.processes.warm_client import main\n"
            f"sys.exit(main({self.address!r}, {str(CHECKOUT / 'manage.py')!r}, {settings!r}))\n"
        )
        path.chmod(0o755)

    def stop(self) -> None:
        self._input.close()
        self._process.wait(60)
        self._folder.cleanup()


@functools.cache
def shared() -> WarmProcess:
    """The process for commands with any environment. It ends with this process."""
    return WarmProcess()


def serve(listener: socket.socket, env: Mapping[str, str] | None) -> None:
    """Serve the commands that come to `listener` until standard input ends."""
    for name in LIBRARIES:
        __import__(name)
    gc.freeze()  # otherwise a garbage collection in a fork would copy every page
    if env is not None:
        load_settings(env)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the children are not waited for
    while listener.fileno() in select.select([listener.fileno(), 0], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            serve_one(connection)
        connection.close()


def serve_one(connection: socket.socket) -> NoReturn:
    """Run the command of a connection in a child; send its pid, then its exit code."""
    data, streams, *_ = socket.recv_fds(connection, 65536, 3)
    while not data.endswith(b"\n"):
        data += connection.recv(65536)
    if pid := os.fork():
        connection.sendall(f"{pid}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(OSError):  # the client has ended
            connection.sendall(f"{code}\n".encode())
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    command(json.loads(data))


def load_settings(env: Mapping[str, str]) -> None:
    """Replace the environment and read its settings."""
    os.environ.clear()
    os.environ.update(env, DJANGO_SETTINGS_MODULE="fleet.settings")
    import django  # noqa: PLC0415  (the environment must be set first)

    django.setup()
    gc.freeze()


def command(request: Mapping[str, Any]) -> NoReturn:
    """Run one command in this process, and exit."""
    if request["env"] is not None:
        os.environ.clear()
        os.environ.update(request["env"])
    child_coverage.start()
    sys.argv = request["argv"]
    from manage import main  # noqa: PLC0415

    os.chdir(request["cwd"])

    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the rest of the interpreter's shutdown takes longer than most commands


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), json.loads(sys.stdin.readline()))
