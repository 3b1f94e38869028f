#!/usr/bin/env python3
"""A container engine for tests, without containers: `scripted_engine.py podman|docker ARGUMENT…`.

It runs what a container would run as a process of this host: with the container's environment, its volumes as folders,
and its published port as the port of the server. As with the real engines, a container has a session of its own and
outlives the client that runs it; the client passes signals on. SCRIPTED_ENGINE is the folder of its state:

calls            one line of JSON per call: the program's name and its arguments
images           one line per image that is here
pullable         the images that can be pulled
error            if it exists: the answer to every call but `machine`, because the engine does not run
machine          if it exists: `stopped` or `running`; `machine start` removes `error`
containers/NAME  {"pid", "stop_signal"} of a running container
volumes/NAME     the content of a volume
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

STATE = Path(os.environ["SCRIPTED_ENGINE"])
NOBODY = 65534
HARDENED = {"--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--rm"}


def main(name: str, arguments: list[str]) -> int:
    with (STATE / "calls").open("a") as calls:
        calls.write(json.dumps([name, *arguments]) + "\n")
    if (STATE / "error").exists() and arguments[0] != "machine":
        return refuse((STATE / "error").read_text())
    match name, arguments:
        case ("podman", ["info"]) | ("docker", ["version", *_]):
            return 0
        case "podman", ["machine", *rest]:
            return machine(rest)
        case _, ["image", "inspect", image]:
            return 0 if image in lines("images") else refuse(f"Error: {image}: image not known")
        case _, ["pull", "--quiet", image]:
            if image not in lines("pullable"):
                return refuse(f"Error: initializing source docker://{image}: no route to host")
            with (STATE / "images").open("a") as images:
                images.write(f"{image}\n")
            return 0
        case _, ["run", *rest]:
            return run(rest)
        case _, ["container", "inspect", container]:
            return 0 if running(container) else refuse(f"Error: no such container {container}")
        case _, ["stop", "-t", seconds, container]:
            return stop(container, float(seconds))
        case _, ["volume", "rm", "--force", name]:
            shutil.rmtree(STATE / "volumes" / name, ignore_errors=True)
            return 0
        case _, ["rm", "--force", container]:
            return stop(container, 0) and 0
        case _, ["inspect", "--format={{.State.Pid}}", container]:
            if (container_state := running(container)) is None:
                return refuse(f"Error: no such object: {container}")
            print(container_state["pid"])  # noqa: T201
            return 0
    return refuse(f"Error: unrecognized command `{name} {' '.join(arguments)}`")


def machine(arguments: list[str]) -> int:
    state = STATE / "machine"
    match arguments:
        case ["list", "--format=json"]:
            print(json.dumps([{"Running": state.read_text() == "running"}] if state.exists() else []))  # noqa: T201
        case ["init"]:
            state.write_text("stopped")
        case ["start"] if state.exists():
            state.write_text("running")
            (STATE / "error").unlink(missing_ok=True)
        case _:
            return refuse(f"Error: podman machine {' '.join(arguments)}")
    return 0


def run(arguments: list[str]) -> int:
    """Run a container in the foreground, and return its exit code."""
    options = dict(part.partition("=")[::2] for part in arguments if part.startswith("--"))
    positional = [part for part in arguments if not part.startswith("--")]
    if missing := HARDENED - set(arguments):
        return refuse(f"Error: this test expects {missing}")
    if running(options["--name"]) is not None:
        return refuse(f'Error: the container name "{options["--name"]}" is already in use')
    image, *command = positional
    if image not in lines("images"):
        return refuse(f"Error: {image}: image not known")
    _, port, inner_port = options["--publish"].split(":")
    env = {"PATH": os.environ["PATH"], {"5432": "PGPORT", "6379": "VALKEY_PORT"}[inner_port]: port}
    for part in arguments:
        if part.startswith("--env="):
            variable, separator, value = part.removeprefix("--env=").partition("=")
            env[variable] = value if separator else os.environ[variable]
    if volume := options.get("--volume"):
        source, target = volume.split(":")
        (STATE / "volumes" / source).mkdir(parents=True, exist_ok=True)
        env = {variable: value.replace(target, str(STATE / "volumes" / source)) for variable, value in env.items()}
    process = subprocess.Popen(
        [options["--entrypoint"], *command], env=env, cwd=STATE, start_new_session=True, preexec_fn=not_as_root
    )
    record = STATE / "containers" / options["--name"]
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps({"pid": process.pid, "stop_signal": options.get("--stop-signal", "SIGTERM")}))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: process.send_signal(number))
    code = process.wait()
    record.unlink(missing_ok=True)
    return 128 - code if code < 0 else code


def not_as_root() -> None:
    """Enter a user namespace in which root is nobody, because Postgres refuses root."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x10000000) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} 0 1")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} 0 1")


def stop(name: str, seconds: float) -> int:
    if (container_state := running(name)) is None:
        return refuse(f"Error: no container with name or ID {name!r} found: no such container")
    pid = int(container_state["pid"])
    deadline = time.monotonic() + seconds
    with suppress(ProcessLookupError):
        os.kill(pid, signal.Signals[container_state["stop_signal"]])
        while running(name) is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        if running(name) is not None:
            os.killpg(pid, signal.SIGKILL)
    (STATE / "containers" / name).unlink(missing_ok=True)
    return 0


def running(name: str) -> dict[str, str] | None:
    try:
        container_state: dict[str, str] = json.loads((STATE / "containers" / name).read_text())
        state = Path(f"/proc/{container_state['pid']}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ValueError):
        return None
    return None if state == "Z" else container_state


def lines(name: str) -> list[str]:
    file = STATE / name
    return file.read_text().splitlines() if file.exists() else []


def refuse(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return 125


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).name, sys.argv[2:]))
