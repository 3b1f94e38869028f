"""`manage.py fleet_key create|list|revoke`: machine keys, with which programs act for a user."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from fleet import errors, ids, invocation
from fleet.access import operations
from fleet.access.models import Key
from fleet.access.rules import Scope
from fleet.api.accounts import key_shape
from fleet.console import arguments, lines
from fleet.management.operator import OperatorCommand


class Command(OperatorCommand):
    help = "Machine keys: shown once, kept as a digest, narrowed to scopes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="make a key; it is written to standard output, this once")
        create.add_argument("name", help="what it is for")
        create.add_argument("--user", required=True, help="for whom it acts")
        create.add_argument(
            "--scope",
            action="append",
            required=True,
            choices=[scope.value for scope in Scope],
            help="may be given again",
        )
        create.add_argument("--days", type=_lifetime, metavar="N", help="it expires after so many; else never")
        revoke = actions.add_parser("revoke", help="refuse it from now on")
        revoke.add_argument("key", help="its id (key_…) or its prefix (flk_…)")
        listing = actions.add_parser("list", help="all keys, without their text")
        listing.add_argument("--user", help="only this user's")
        for one in (create, listing):
            one.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def act(self, **options: Any) -> int:
        match options["action"]:
            case "create":
                return self._create(options)
            case "revoke":
                key = _find(options["key"])
                operations.revoke_key(key=key)
                self.say(f"{key.prefix} ({lines.one(key.name)}) is revoked.")
                return 0
        keys = Key.objects.select_related("user")
        if options["user"]:
            keys = keys.filter(user=operations.find_user(options["user"]))
        if options["json"]:
            self.show([key_shape(key) for key in keys])
            return 0
        width, now = lines.columns(self.stdout), timezone.now()
        for key in keys:
            used = f"used {key.used_at:%Y-%m-%d %H:%M}" if key.used_at else "never used"
            columns = ((key.user.username, 14), (",".join(key.scopes), 20), (_stands(key, now), 16), (used, 21))
            told = " ".join(lines.padded(text, to, width=width) for text, to in columns)
            self.stdout.write(lines.fitted(f"{key.prefix} {told} {lines.one(key.name)}".rstrip(), width=width))
        if not keys:
            whose = f"{options['user']} has no keys." if options["user"] else "No keys."
            make = invocation.command(
                "fleet_key", "create", "NAME", "--user", options["user"] or "USER", "--scope", "read"
            )
            self.say(f"{whose} Make one: {make}")
        return 0

    def _create(self, options: dict[str, Any]) -> int:
        expires = timezone.now() + timedelta(days=options["days"]) if options["days"] is not None else None
        user = operations.find_user(options["user"])
        made = operations.create_key(
            user=user,
            name=options["name"],
            scopes=options["scope"],
            expires_at=expires,
        )
        made.key.refresh_from_db()
        if options["json"]:
            self.show({**key_shape(made.key), "key": made.text})
        else:
            self.stdout.write(made.text)
            self.say("Keep it: it is not shown again.")
        if not user.is_active:
            enable = invocation.command("fleet_user", "enable", user.username)
            self.say(f"It is refused as long as {user} is disabled. Enable them: {enable}")
        return 0


def _lifetime(text: str) -> int:
    if not (days := arguments.days(text)):
        raise ArgumentTypeError("a key lives for a day at least; without --days for good")
    return days


def _stands(key: Key, now: datetime) -> str:
    """Whether it is good, and until when."""
    if key.revoked_at:
        return "revoked"
    if key.expires_at is None:
        return "for good"
    return f"until {key.expires_at:%Y-%m-%d}" if key.expires_at > now else "expired"


def _find(text: str) -> Key:
    """By its id, its prefix, or its whole text."""
    found = None
    if text.startswith(operations.PREFIX):
        found = Key.objects.filter(prefix="_".join(text.split("_", 2)[:2])).first()
    elif text.startswith(f"{ids.KEY}_"):
        with suppress(errors.Invalid):
            found = Key.objects.filter(id=ids.decode(ids.KEY, text)).first()
    if found is None:
        raise errors.NotFound(
            f"There is no key {lines.one(text[:40])!r}.", hint=f"See: {invocation.command('fleet_key', 'list')}"
        )
    return found
