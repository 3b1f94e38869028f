"""`fleet_user` and `fleet_key` refuse an invalid name with the reason, before they ask for a password."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from fleet.access import operations
from fleet.access.models import Key, Role

pytestmark = pytest.mark.django_db


def run_refused(*arguments: str) -> tuple[int, str]:
    """The exit code and the message of a refused command."""
    with pytest.raises(CommandError) as error:
        call_command(*arguments)
    return error.value.returncode, str(error.value)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "'' is not a valid user name: it is empty."),
        ("   ", "'   ' is not a valid user name: it contains ' '."),
        ("ann smith", "'ann smith' is not a valid user name: it contains ' '."),
        ("a\x1b[31mb", r"'a\x1b[31mb' is not a valid user name: it contains '\x1b'."),
        ("a\nb", r"'a\nb' is not a valid user name: it contains '\n'."),
        ("a\0b", r"'a\x00b' is not a valid user name: it contains '\x00'."),
        ("\udcff", r"'\udcff' is not a valid user name: it contains '\udcff'."),
        ("🦊", "'🦊' is not a valid user name: it contains '🦊'."),
        ("x" * 200, f"'{'x' * 40}' is not a valid user name: it has 200 characters."),
    ],
)
def test_an_invalid_name_is_refused_with_a_hint(name: str, why: str) -> None:
    text = f"{why} Use 1 to 150 letters, digits, and @ . + - _, for example ann.smith."
    assert run_refused("fleet_user", "create", name) == (2, text)  # without a password prompt, which would fail here
    assert not User.objects.exists()


def test_a_taken_name_is_refused_before_the_password_prompt() -> None:
    operations.create_user(name="ann", role=Role.USER)
    assert run_refused("fleet_user", "create", "ann") == (1, "User 'ann' already exists. Choose another name.")


@pytest.mark.parametrize("name", ["ann", "Ann.Smith", "ann@example.org", "a+b-c_d", "Ωμέγα", "x" * 150])
def test_a_valid_name_is_accepted(name: str) -> None:
    call_command("fleet_user", "create", name, "--no-password")
    call_command("fleet_user", "role", name, "agent")
    assert User.objects.get().account.role == Role.AGENT


def test_names_are_normalised() -> None:
    call_command("fleet_user", "create", "ﬁnn", "--no-password")  # with the ligature, U+FB01
    assert User.objects.get().username == "finn"
    assert run_refused("fleet_user", "create", "finn", "--no-password")[0] == 1
    call_command("fleet_user", "role", "ﬁnn", "admin")
    assert User.objects.get().is_superuser


@pytest.mark.parametrize("name", ["", "  ", "a\x1b[31mb", "a\nb", "\udcff", "x" * 101])
def test_the_name_of_a_key_must_be_readable(name: str) -> None:
    operations.create_user(name="ann", role=Role.USER)
    text = f"{name[:40]!r} is not a valid key name. Describe what the key is for, in 1 to 100 characters on one line."
    assert run_refused("fleet_key", "create", name, "--user", "ann", "--scope", "read") == (2, text)
    assert not Key.objects.exists()
