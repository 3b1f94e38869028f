"""`fleet_user` and `fleet_key`: output, refusals before any prompt, and audit entries."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Max
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from fleet.access import operations
from fleet.access.models import Key, Role
from fleet.audit.models import Entry
from tests.support.console import CommandResult, manage
from tests.support.paths import CHECKOUT

PASSWORD = "long enough for this"
pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def ann() -> User:
    return operations.create_user(name="ann", role=Role.USER, password=PASSWORD)


def piped(monkeypatch: pytest.MonkeyPatch, text: str, *arguments: str) -> CommandResult:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return manage(*arguments)


def entry(kind: str) -> Entry:
    return Entry.objects.filter(kind=kind).latest("id")


# ── People ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_user_is_created_with_a_password_from_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    result = piped(monkeypatch, f"{PASSWORD}\n", "fleet_user", "create", "ann")
    assert (result.code, result.out, result.err) == (0, "", "Created ann with the role user.\n")
    assert User.objects.get(username="ann").check_password(PASSWORD)
    assert entry("user.created").subject == "user:ann"


def test_without_a_password_no_user_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    for stdin, message in (("", "No password was given."), ("\n", "No password was given."), ("short\n", "too short")):
        result = piped(monkeypatch, stdin, "fleet_user", "create", "ann")
        assert (result.code, message in result.err) == (2, True), result.err
    assert not User.objects.exists()


def test_an_invalid_user_is_refused_before_the_password_prompt(monkeypatch: pytest.MonkeyPatch, ann: User) -> None:
    for arguments, code, message in (
        (("ann",), 1, "User 'ann' already exists."),
        (("",), 2, "it is empty"),
        (("a b",), 2, "it contains ' '"),
        (("bob", "--team", "web"), 1, "There is no team 'web'."),
    ):
        unread = f"{PASSWORD}\n"
        result = piped(monkeypatch, unread, "fleet_user", "create", *arguments)
        assert (result.code, message in result.err) == (code, True), result.err
        assert sys.stdin.read() == unread


def test_ctrl_d_at_the_prompt_creates_no_user(subprocess_environment: dict[str, str]) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "manage.py"), "fleet_user", "create", "dora"],
        env=subprocess_environment, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    output = b""
    try:
        while b"Password of dora: " not in output:
            output += os.read(controller, 4_096)
        os.write(controller, b"\x04")
        while b"No password was given." not in output:
            output += os.read(controller, 4_096)
        assert process.wait(20) == 2
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    assert b"Traceback" not in output


def test_granting_and_revoking_are_recorded_once_with_the_previous_state(ann: User) -> None:
    before = Entry.objects.aggregate(last=Max("id"))["last"] or 0  # keep what other tests have left
    assert "ann may launch, resume and retry" in manage("fleet_user", "grant", "ann").err
    manage("fleet_user", "grant", "ann")
    result = Entry.objects.filter(kind="role.changed", id__gt=before).values_list("subject", "before", "after")
    assert list(result) == [("user:ann", {"plan.execute": False}, {"plan.execute": True})]
    second = manage("fleet_user", "revoke", "ann")
    assert (
        second.code,
        "ann may no longer launch" in second.err,
        "continue until" in second.err,
    ) == (0, True, True)


def test_revoking_nothing_says_so(ann: User) -> None:
    team = Group.objects.create(name="ops")
    team.permissions.add(Permission.objects.get(codename="plan_execute"))
    ann.groups.add(team)
    operations.set_execute(user=ann, allowed=True)
    result = manage("fleet_user", "revoke", "ann")
    assert (result.code, "still has it from the team ops" in result.err) == (1, True), result.err
    assert not ann.user_permissions.exists()
    operations.set_role(user=ann, role=Role.ADMIN)
    assert "still has it as an admin" in manage("fleet_user", "revoke", "ann").err


@pytest.fixture
def boss() -> User:
    User.objects.filter(is_superuser=True).update(is_active=False)  # left by other tests
    return operations.create_user(name="boss", role=Role.ADMIN, password=PASSWORD)


def test_the_last_active_admin_cannot_be_demoted(ann: User, boss: User) -> None:
    for arguments in (("role", "boss", "user"), ("disable", "boss")):
        result = manage("fleet_user", *arguments)
        assert (result.code, "No admin would be left without boss." in result.err) == (1, True), result.err
    assert manage("fleet_user", "role", "ann", "admin").code == 0
    assert manage("fleet_user", "disable", "boss").code == 0  # ann remains
    assert manage("fleet_user", "role", "boss", "user").code == 0  # no longer an admin


def test_the_admin_site_protects_the_last_admin_too(ann: User, boss: User, client: Client) -> None:
    client.force_login(boss)
    page = reverse("admin:auth_user_change", args=[boss.pk])
    form = {"username": "boss", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    text = "No admin would be left without boss."
    assert text in client.post(page, {**form, "is_active": "on", "is_staff": "on"}).content.decode()
    delete_url = reverse("admin:auth_user_delete", args=[boss.pk])
    assert text in client.post(delete_url, {"post": "yes"}).content.decode()
    several = {"action": "delete_selected", "_selected_action": [ann.pk, boss.pk], "post": "yes"}
    assert text in client.post(reverse("admin:auth_user_changelist"), several).content.decode()
    boss.refresh_from_db()
    assert (boss.is_active, boss.is_superuser) == (True, True)
    assert client.post(page, {**form, "is_active": "on", "is_staff": "on", "is_superuser": "on"}).status_code == 302


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def create(*arguments: str) -> CommandResult:
    return manage("fleet_key", "create", *arguments, "--user", "ann", "--scope", "read")


def test_only_the_key_is_printed_on_stdout_and_the_audit_trail_identifies_it(ann: User) -> None:
    result = create("ci", "--days", "90")
    key = Key.objects.get()
    assert result.out.startswith(f"{key.prefix}_")
    assert len(result.out.split()) == 1
    assert "not shown again" in result.err
    assert key.expires_at is not None
    assert entry("key.created").after == {
        "user": "ann", "name": "ci", "prefix": key.prefix, "scopes": ["read"], "expires_at": key.expires_at.isoformat(),
    }  # fmt: skip


def test_a_key_with_an_invalid_name_or_expiry_is_refused(ann: User) -> None:
    for arguments in (("",), (" ",), ("x" * 101,), ("ci", "--days", "0"), ("ci", "--days", "99999")):
        result = create(*arguments)
        assert (result.code, result.out) == (2, ""), arguments
    assert not Key.objects.exists()


def test_the_list_of_keys_has_columns_with_the_expiry(ann: User) -> None:
    create("for good")
    create("for a year", "--days", "365")
    Key.objects.filter(name="for a year").update(name="for a year\x1b[31m")  # as an old key may be named
    create("past")
    Key.objects.filter(name="past").update(expires_at=timezone.now())
    manage("fleet_key", "revoke", Key.objects.get(name="for good").prefix)
    output = manage("fleet_key", "list").out
    assert "\x1b" not in output
    header, past_key, year_key, revoked_key = output.splitlines()
    assert all(
        line[header.index("LAST USED (UTC)") :].startswith("never ") for line in (past_key, year_key, revoked_key)
    )
    assert [
        word in line for line, word in ((past_key, "expired"), (year_key, "until 20"), (revoked_key, "revoked"))
    ] == [True] * 3
    assert manage("fleet_key", "list", "--json").json[0]["name"] == "past"


def test_a_key_is_found_only_by_its_id_its_prefix_or_its_text(ann: User) -> None:
    keys = [operations.create_key(user=ann, name="ci", scopes=["read"]) for _ in range(3)]
    for wrong_identifier in (f"{keys[0].key.prefix}zz", "flk_", "key_0", "", "ci"):
        assert manage("fleet_key", "revoke", wrong_identifier).code == 1, wrong_identifier
    assert not Key.objects.exclude(revoked_at=None).exists()
    for identifier in (keys[0].key.prefix, keys[1].key.ref, keys[2].text):
        assert manage("fleet_key", "revoke", identifier).code == 0
    assert not Key.objects.filter(revoked_at=None).exists()
    assert entry("key.revoked").before == {"user": "ann", "name": "ci", "prefix": keys[2].key.prefix}


def test_a_user_without_keys_is_reported(ann: User) -> None:
    assert manage("fleet_key", "list").err.startswith("No keys. Create one")
    assert manage("fleet_key", "list", "--user", "ann").err.startswith("ann has no keys. Create one")


def test_creating_a_key_for_a_disabled_user_prints_a_warning(ann: User) -> None:
    operations.set_active(user=ann, active=False)
    assert "refused while ann is disabled" in create("ci").err


# ── Both ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    for command in (
        ("fleet_user", "create", "ann", "--no-password", "--team", "\udcff"),
        ("fleet_user", "grant", "\udcff"),
        ("fleet_key", "revoke", "flk_\udcff"),
        ("fleet_audit", "list", "--subject", "\udcff"),
    ):
        result = manage(*command)
        assert (result.code, result.err.count("\n"), "is not valid UTF-8" in result.err) == (2, 1, True), result


def test_no_color_is_respected(subprocess_environment: dict[str, str]) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "manage.py"), "fleet_user", "grant", "nobody"],
        env={**subprocess_environment, "NO_COLOR": "1", "TERM": "xterm"}, stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    assert process.wait(20) == 1
    output = os.read(controller, 4_096)
    os.close(controller)
    assert output.startswith(b"There is no user 'nobody'.")
