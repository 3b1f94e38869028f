"""Callables for the tests of the driver contract and of the python driver."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agents.callables import Context, register


@register
def return_value(context: Context, *, value: Any = None) -> Any:
    return value


@register
def fail(context: Context, *, text: str) -> None:
    raise RuntimeError(text)


@register
def wait(context: Context, *, ready: str = "") -> None:
    if ready:
        Path(ready).touch()
    time.sleep(600)


@register
def report(context: Context, *, output: str, fraction: float, note: str) -> None:
    print(output)  # noqa: T201
    context.progress(fraction, note)


@register
def add_sortie(context: Context) -> None:
    context.add(name="more", agent="backend", run="true")


@register
def return_environment(context: Context) -> dict[str, str]:
    return dict(os.environ)


@register
def show_token(context: Context) -> str:
    token = os.environ["FLEET_TOKEN"]
    print(hashlib.sha256(token.encode()).hexdigest())  # noqa: T201
    print(token)  # noqa: T201
    print(token, file=sys.stderr)  # noqa: T201
    context.progress(0.5, token)
    if os.environ["CODE"] != "0":
        raise RuntimeError(token)
    return token


@register
def return_resume(context: Context) -> Any:
    return context.resume


@register
def save_resume(context: Context, *, value: Any, then_s: float) -> None:
    context.save_resume(value)
    time.sleep(then_s)


@register
def save_resume_when_stopped(context: Context, *, value: Any, ready: str) -> None:
    try:
        Path(ready).touch()
        time.sleep(600)
    finally:
        context.save_resume(value)


@register
def leave_a_daemon(context: Context) -> None:
    subprocess.Popen(["sleep", "600"], start_new_session=True)


@register
def hold_memory(context: Context, *, processes: int, megabytes: int) -> None:
    code = f"memory = b'x' * {megabytes * 1_000_000}; import time; time.sleep(600)"
    for child in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]:
        child.wait()


@register
def write_files(context: Context, *, files: int, megabytes: int, then_s: float) -> None:
    for number in range(files):
        (context.scratch / f"file{number}").write_bytes(b"x" * megabytes * 1_000_000)
    time.sleep(then_s)


@register
def exit_with(context: Context, *, code: int) -> None:
    sys.exit(code)


@register
def return_a_set(context: Context) -> set[int]:
    return {1}


@register
def describe_context(context: Context) -> dict[str, Any]:
    return {"needs": dict(context.needs), "inputs": dict(context.inputs), "scratch": str(context.scratch)}


@register
def clean_up_when_stopped(context: Context, *, ready: str, cleaned_up: str) -> None:
    try:
        Path(ready).touch()
        time.sleep(600)
    finally:
        Path(cleaned_up).touch()


def unregistered(context: Context) -> None:
    """Has no @register, so no plan can call it."""


@register
def show_variable(context: Context, *, name: str, fail: bool) -> Any:
    """Output a variable's value in every possible way."""
    value = os.environ[name]
    sys.stdout.write(f"{value} {base64.b64encode(b'user:' + value.encode()).decode()}\n")
    context.progress(0.5, value)
    context.add(name="next", agent="backend", run=["echo", value])
    if fail:
        raise RuntimeError(value)
    return {value: [value]}
