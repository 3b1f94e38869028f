"""System calls with which the work of an attempt would leave its namespaces, which separate neither keyrings nor the
rights that a file gives to whoever runs it. What the filter refuses: agents/drivers/seccomp.py."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.confined import USERS, Place, places

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86-64")

KEYRINGS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*arguments)
    return result if result >= 0 else -ctypes.get_errno()
SESSION = -3
print(call(248, b"user", b"fleet:test", b"x", 1, SESSION))  # add_key
print(call(249, b"user", b"fleet:test", None, SESSION))  # request_key
print(call(250, 0, SESSION, 0))  # keyctl, KEYCTL_GET_KEYRING_ID
print(call(425, 1, 0))  # io_uring_setup
"""


@pytest.fixture(params=USERS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from places(request.param)


def run(place: Place, code: str) -> str:
    """What a piece of Python prints in the sandbox."""
    told = place.run(f"cat > /tmp/code.py <<'end'\n{code}\nend\n{place.python} /tmp/code.py 2>&1")
    assert told["ok"], told
    return str(told["out"])


def test_it_shares_no_keyring_and_has_no_calls_that_the_filter_does_not_see(place: Place) -> None:
    assert run(place, KEYRINGS).split() == ["-38"] * 4, "ENOSYS, as from a kernel without them"
