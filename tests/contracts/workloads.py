"""The workloads of the driver contract (test_driver_contract.py), in the form that each driver needs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

HERE = "tests.contracts.callables"

Workload = Callable[..., dict[str, Any]]


def _call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"call": f"{HERE}:{name}", "arguments": arguments}


WORKLOADS: dict[str, dict[str, Workload]] = {
    "command": {
        "succeed": lambda value: {
            "shell": 'printf %s "$VALUE" > "$FLEET_RESULT"',
            "env": {"VALUE": json.dumps(value)},
        },
        "fail": lambda: {"shell": "echo no such luck >&2; exit 3"},
        "wait": lambda: {"argv": ("sleep", "600")},
        "report": lambda: {"shell": 'echo said; echo "0.25 a quarter" > "$FLEET_PROGRESS"'},
        "add_sortie": lambda: {
            "shell": 'echo \'[{"name": "more", "agent": "backend", "run": "true"}]\' > "$FLEET_SORTIES"'
        },
        "large_result": lambda: {"shell": 'printf \'"%02000d"\' 0 > "$FLEET_RESULT"'},
        "print_environment": lambda: {"shell": "env"},
        "show_token": lambda: {
            "shell": 'test -z "$FLEET_TOKEN" || printf %s "$FLEET_TOKEN" | sha256sum; echo "$FLEET_TOKEN" | tee /dev/stderr;'
            'echo "0.5 $FLEET_TOKEN" > "$FLEET_PROGRESS"; printf \'"%s"\' "$FLEET_TOKEN" > "$FLEET_RESULT"; exit $CODE'
        },
        "return_resume": lambda: {
            "shell": 'if test -e "$FLEET_RESUME"; then cp "$FLEET_RESUME" "$FLEET_RESULT"; '
            'else echo null > "$FLEET_RESULT"; fi'
        },
        "save_resume": lambda value, then_s: {
            "shell": 'printf %s "$VALUE" > "$FLEET_RESUME.new"; mv "$FLEET_RESUME.new" "$FLEET_RESUME"; exec sleep $THEN',
            "env": {"VALUE": json.dumps(value), "THEN": str(then_s)},
        },
        "save_resume_when_stopped": lambda value, ready: {
            "shell": 'trap \'printf %s "$VALUE" > "$FLEET_RESUME"; exit 1\' TERM; touch "$READY"; '
            "while true; do sleep 0.05; done",
            "env": {"VALUE": json.dumps(value), "READY": ready},
        },
        "leave_a_daemon": lambda: {"shell": "setsid sleep 600 >/dev/null 2>&1 & true"},
        "hold_memory": lambda processes, megabytes: {
            "shell": f"for i in $(seq {processes}); do setsid {sys.executable} -c "
            f"\"memory = b'x' * {megabytes}_000_000; import time; time.sleep(600)\" & done; wait"
        },
        "write_files": lambda files, megabytes, then_s: {
            "shell": f"for i in $(seq {files}); do head -c {megabytes}000000 /dev/zero > file$i || exit; done; "
            f"sleep {then_s}"
        },
    },
    "python": {
        "succeed": lambda value: _call("return_value", value=value),
        "fail": lambda: _call("fail", text="no such luck"),
        "wait": lambda: _call("wait"),
        "report": lambda: _call("report", output="said", fraction=0.25, note="a quarter"),
        "add_sortie": lambda: _call("add_sortie"),
        "large_result": lambda: _call("return_value", value="0" * 2_000),
        "print_environment": lambda: _call("return_environment"),
        "show_token": lambda: _call("show_token"),
        "return_resume": lambda: _call("return_resume"),
        "save_resume": lambda value, then_s: _call("save_resume", value=value, then_s=then_s),
        "save_resume_when_stopped": lambda value, ready: _call("save_resume_when_stopped", value=value, ready=ready),
        "leave_a_daemon": lambda: _call("leave_a_daemon"),
        "hold_memory": lambda processes, megabytes: _call("hold_memory", processes=processes, megabytes=megabytes),
        "write_files": lambda files, megabytes, then_s: _call(
            "write_files", files=files, megabytes=megabytes, then_s=then_s
        ),
    },
    "scripted": {
        "succeed": lambda value: {"arguments": {"result": value}},
        "fail": lambda: {"arguments": {"fail": "no such luck"}},
        "wait": lambda: {"arguments": {"hold": True}},
        "report": lambda: {"arguments": {"output": {"bytes": 4}, "progress": [[0.25, "a quarter"]]}},
        "add_sortie": lambda: {"arguments": {"add": [{"name": "more", "agent": "backend", "run": "true"}]}},
        "return_resume": lambda: {"arguments": {"result_resume": True}},
        "save_resume": lambda value, then_s: {"arguments": {"resume": value, "seconds": then_s}},
    },
}
WITH_PROCESSES = ["command", "python"]
every_driver = pytest.mark.parametrize("driver", list(WORKLOADS))
with_processes = pytest.mark.parametrize("driver", WITH_PROCESSES)
