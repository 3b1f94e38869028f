"""Runs a function in a fork of the test's process, for functions that change the process that calls them."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from typing import Any


def run(function: Callable[[], Any]) -> Any:
    """Run the function in a fork and return its result, which must be JSON. Fails the test with what it raises."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(receiver)
            os.write(sender, _outcome(function).encode())
        finally:  # whatever happens, the fork must not go on with the other tests
            os._exit(0)
    os.close(sender)
    with open(receiver, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    assert text, "the fork ended without a result"
    outcome = json.loads(text)
    assert "error" not in outcome, outcome["error"]
    return outcome["result"]


def _outcome(function: Callable[[], Any]) -> str:
    try:
        return json.dumps({"result": function()})
    except BaseException:
        return json.dumps({"error": traceback.format_exc()})
