"""The callables of an installation are imported into processes of the fleet, whose own imports must not change."""

from __future__ import annotations

import subprocess

from fleet.console import invocation


def test_what_callables_add_to_the_path_of_modules_shadows_no_library() -> None:
    """lizard, which the sample's callables import, adds the folder of the running program: here `fleet/`."""
    code = "from agents import discovery; discovery.discover(); import lizard, redis; print(redis.Redis.__name__)"
    command = invocation.program("shell", "--no-imports", "-c", code)
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.returncode) == ("Redis\n", 0), result.stderr
