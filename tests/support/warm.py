"""Runs `manage.py` commands in forks of a process that has already imported the libraries.

`manage.py` takes a second to start, which adds up to half a minute in a test that runs thirty commands. Each command
has its own process and environment.

By default the forked process has not read any settings. With `Warm(env)` it has read those of `env`, which is faster
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
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

CHECKOUT = Path(__file__).resolve().parents[2]
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


class Warm:
    """The client of a process that forks one child per command.

    With `env`, that process has read the settings of this environment.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm"], cwd=CHECKOUT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self._readable = select.poll()
        self._readable.register(self._out, select.POLLIN | select.POLLHUP)
        if env is not None:
            self._send({"settle": dict(env)})

    @property
    def _out(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def manage(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = CHECKOUT, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run `manage.py` with these arguments. Returns and raises the same as `subprocess.run`."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            request = {
                "arguments": arguments,
                "env": env and dict(env),
                "cwd": str(cwd),
                "out": str(out),
                "err": str(err),
            }
            pid = self._send(request)
            deadline = time.monotonic() + timeout
            timed_out = not self._readable.poll(max(0.0, deadline - time.monotonic()) * 1_000)
            if timed_out:
                os.kill(pid, signal.SIGKILL)
            code = json.loads(self._out.readline())
            if timed_out:
                raise subprocess.TimeoutExpired(["manage.py", *arguments], timeout, out.read_bytes(), err.read_bytes())
            return subprocess.CompletedProcess(
                ["manage.py", *arguments], code, out.read_text(), err.read_text(errors="replace")
            )

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _send(self, request: dict[str, Any]) -> int:
        """Send a request. Returns the child's pid, or 0 for settings."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        return int(json.loads(self._out.readline()))


@functools.cache
def anywhere() -> Warm:
    """The process for commands with any environment. It ends with this process."""
    return Warm()


def serve() -> None:
    """Serve the requests on standard input, one JSON document per line, until it ends."""
    for name in LIBRARIES:
        __import__(name)
    gc.freeze()  # otherwise a collection in a fork would copy every page
    requests, responses = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
        os.dup2(os.open(os.devnull, mode), descriptor)
    for line in iter(requests.readline, ""):
        request = json.loads(line)
        if "settle" in request:
            settle(request["settle"])
            responses.write("0\n")
        elif pid := os.fork():
            responses.write(f"{pid}\n")
            responses.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        else:
            requests.close()
            os.close(responses.fileno())
            command(request)
            return


def settle(env: Mapping[str, str]) -> None:
    """Replace the environment and read its settings."""
    os.environ.clear()
    os.environ.update(env, DJANGO_SETTINGS_MODULE="fleet.settings")
    import django  # noqa: PLC0415  (the environment must be set first)

    django.setup()
    gc.freeze()


def command(request: Mapping[str, Any]) -> None:
    """Run one command in this process, and exit."""
    for descriptor, path in ((1, request["out"]), (2, request["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
    if request["env"] is not None:
        os.environ.clear()
        os.environ.update(request["env"])
    sys.argv = ["manage.py", *request["arguments"]]
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
    serve()
