"""Commands as a user gives them, each in a process of its own with an environment of its own, forked from one that has loaded
the libraries: a second that `manage.py` takes to start is half a minute in a test that asks thirty times.

What is forked has read no settings yet, unless it is asked to (`Warm(env)`): then it has, for good, and is quicker still.
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
    """The process that is forked. With an environment, it knows that one alone, and has the settings that come of it."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm"], cwd=CHECKOUT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self._readable = select.poll()
        self._readable.register(self._out, select.POLLIN | select.POLLHUP)
        if env is not None:
            self._say({"settle": dict(env)})

    @property
    def _out(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def manage(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = CHECKOUT, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """What `subprocess.run` would give of `manage.py` with these arguments, and raise."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            asked = {
                "arguments": arguments,
                "env": env and dict(env),
                "cwd": str(cwd),
                "out": str(out),
                "err": str(err),
            }
            pid = self._say(asked)
            deadline = time.monotonic() + timeout
            late = not self._readable.poll(max(0.0, deadline - time.monotonic()) * 1_000)
            if late:
                os.kill(pid, signal.SIGKILL)
            code = json.loads(self._out.readline())
            if late:
                raise subprocess.TimeoutExpired(["manage.py", *arguments], timeout, out.read_bytes(), err.read_bytes())
            return subprocess.CompletedProcess(
                ["manage.py", *arguments], code, out.read_text(), err.read_text(errors="replace")
            )

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _say(self, asked: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        return int(json.loads(self._out.readline()))


@functools.cache
def anywhere() -> Warm:
    """The one that takes any environment, and ends with this process."""
    return Warm()


def serve() -> None:
    """Do what is asked by standard input, a line each, until it ends."""
    for name in LIBRARIES:
        __import__(name)
    gc.freeze()  # a collection in a fork would copy all of it
    questions, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    for number, stream in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
        os.dup2(os.open(os.devnull, stream), number)
    for line in iter(questions.readline, ""):
        asked = json.loads(line)
        if "settle" in asked:
            settle(asked["settle"])
            answers.write("0\n")
        elif pid := os.fork():
            answers.write(f"{pid}\n")
            answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        else:
            questions.close()
            os.close(answers.fileno())
            command(asked)
            return


def settle(env: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env, DJANGO_SETTINGS_MODULE="fleet.settings")
    import django  # noqa: PLC0415  (not before it is known which settings are meant)

    django.setup()
    gc.freeze()


def command(asked: Mapping[str, Any]) -> None:
    for number, name in ((1, asked["out"]), (2, asked["err"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    if asked["env"] is not None:
        os.environ.clear()
        os.environ.update(asked["env"])
    sys.argv = ["manage.py", *asked["arguments"]]
    from manage import main  # noqa: PLC0415

    os.chdir(asked["cwd"])

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
    os._exit(code)  # what else an end of Python does, taking all modules apart, takes longer than most commands


if __name__ == "__main__":
    serve()
