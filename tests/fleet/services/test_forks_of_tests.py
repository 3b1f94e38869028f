"""A test that runs a function in a fork fails with what goes wrong there, and the fork ends in any case."""

from __future__ import annotations

import os

import pytest

from tests.support.processes import forked


def test_an_error_in_the_fork_fails_the_test_with_its_traceback() -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        forked.run(lambda: 1 // 0)


def test_a_fork_whose_result_is_not_json_ends_with_an_error() -> None:
    pid = os.getpid()
    try:
        with pytest.raises(AssertionError, match="not JSON serializable"):
            forked.run(lambda: {1})
    finally:
        if os.getpid() != pid:
            os._exit(1)  # otherwise this fork would run the other tests, too
