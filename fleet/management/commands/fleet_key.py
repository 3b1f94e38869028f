"""`manage.py fleet_key create|list|revoke`: machine keys, which let programs act for a user."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from fleet import errors, ids
from fleet.access import operations
from fleet.access.models import Key
from fleet.access.rules import SCOPES, Scope
from fleet.console import arguments, invocation, lines
from fleet.management.operator import OperatorCommand


class Command(OperatorCommand):
    help = "Create, list and revoke machine keys. A key lets a program act for a user, within scopes; it is shown once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="create a key and print it on standard output, only this once")
        create.add_argument("name", help="what the key is for")
        create.add_argument("--user", required=True, help="the user for whom it acts")
        create.add_argument(
            "--scope",
            action="append",
            required=True,
            choices=[scope.value for scope in Scope],
            help="may be repeated. " + "; ".join(f"{scope}: {allows}" for scope, allows in SCOPES.items()),
        )
        create.add_argument("--days", type=_lifetime, metavar="N", help="expire after N days (default: never)")
        revoke = actions.add_parser("revoke", help="revoke a key; it is refused from now on")
        revoke.add_argument("key", help="its id (key_…) or its prefix (flk_…)")
        listing = actions.add_parser("list", help="list all keys, without their text")
        listing.add_argument("--user", help="only the keys of this user")
        for action in (create, listing):
            action.add_argument("--json", action="store_true", help="print one JSON document")

    def act(self, **options: Any) -> int:
        match options["action"]:
            case "create":
                return self._create(options)
            case "revoke":
                key = _find(options["key"])
                operations.revoke_key(key=key)
                self.say(f"{key.prefix} ({lines.one_line(key.name)}) is revoked.")
                return 0
        keys = Key.objects.select_related("user")
        if options["user"]:
            keys = keys.filter(user=operations.find_user(options["user"]))
        if options["json"]:
            self.show([operations.serialize_key(key) for key in keys])
            return 0
        now = timezone.now()
        rows = [
            (
                key.prefix,
                key.user.username,
                ",".join(key.scopes),
                _validity(key, now),
                f"{key.used_at:%Y-%m-%d %H:%M}" if key.used_at else "never",
                key.name,
            )
            for key in keys
        ]
        if rows:
            header = ("PREFIX", "USER", "SCOPES", "VALIDITY", "LAST USED (UTC)", "NAME")
            for line in lines.table(header, rows, width=lines.columns(self.stdout)):
                self.stdout.write(line)
        else:
            empty = f"{options['user']} has no keys." if options["user"] else "No keys."
            create = invocation.command(
                "fleet_key", "create", "NAME", "--user", options["user"] or "USER", "--scope", "read"
            )
            self.say(f"{empty} Create one: {create}")
        return 0

    def _create(self, options: dict[str, Any]) -> int:
        expires = timezone.now() + timedelta(days=options["days"]) if options["days"] is not None else None
        user = operations.find_user(options["user"])
        new = operations.create_key(
            user=user,
            name=options["name"],
            scopes=options["scope"],
            expires_at=expires,
        )
        new.key.refresh_from_db()
        if options["json"]:
            self.show({**operations.serialize_key(new.key), "key": new.text})
        else:
            self.stdout.write(new.text)
            self.say("Store this key now. It is not shown again.")
        if not user.is_active:
            enable = invocation.command("fleet_user", "enable", user.username)
            self.say(f"The key is refused while {user} is disabled. Enable the user: {enable}")
        return 0


def _lifetime(text: str) -> int:
    if not (days := arguments.days(text)):
        raise ArgumentTypeError("a key is valid for at least one day; leave out --days for a key that never expires")
    return days


def _validity(key: Key, now: datetime) -> str:
    if key.revoked_at:
        return "revoked"
    if key.expires_at is None:
        return "never expires"
    return f"until {key.expires_at:%Y-%m-%d}" if key.expires_at > now else "expired"


def _find(text: str) -> Key:
    """Find a key by its id, its prefix or its full text."""
    key = None
    if text.startswith(operations.KEY_PREFIX):
        key = Key.objects.filter(prefix="_".join(text.split("_", 2)[:2])).first()
    elif text.startswith(f"{ids.KEY}_"):
        with suppress(errors.Invalid):
            key = Key.objects.filter(id=ids.decode(ids.KEY, text)).first()
    if key is None:
        raise errors.NotFound(
            f"There is no key {lines.one_line(text[:40])!r}.",
            hint=f"List the keys: {invocation.command('fleet_key', 'list')}",
        )
    return key
