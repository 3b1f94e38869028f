"""`manage.py fleet_user create|role|grant|revoke|password|enable|disable|sign-out|list`: users and their roles."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from fleet import errors
from fleet.access import operations, tokens
from fleet.access.models import Role
from fleet.console import invocation, lines
from fleet.management.operator import OperatorCommand


class Command(OperatorCommand):
    help = "Manage users, their roles and their permissions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="create a user; asks for the password, or reads it from a pipe")
        create.add_argument("name")
        create.add_argument("--role", choices=Role.values, default=Role.USER.value)
        create.add_argument("--team", action="append", default=[], metavar="TEAM", help="may be repeated")
        create.add_argument("--no-password", action="store_true", help="the user can only use machine keys")
        role = actions.add_parser("role", help="set the role of a user")
        role.add_argument("name")
        role.add_argument("role", choices=Role.values)
        for name, description in (
            ("grant", "let a user launch, resume and retry plans that run code (plan.execute)"),
            ("revoke", "withdraw that permission; running missions continue"),
            ("password", "set the password of a user and end all sessions"),
            ("enable", "let a disabled user sign in again"),
            ("disable", "block a user: end all sessions at once, and refuse sign-ins and keys"),
            ("sign-out", "end all sessions of a user"),
        ):
            actions.add_parser(name, help=description).add_argument("name")
        listing = actions.add_parser("list", help="list all users")
        listing.add_argument("--json", action="store_true", help="print one JSON document")

    def act(self, **options: Any) -> int:
        if options["action"] == "list":
            return self._list(as_json=options["json"])
        if options["action"] == "create":
            return self._create(options)
        user = operations.find_user(options["name"])
        match options["action"]:
            case "role":
                operations.set_role(user=user, role=Role(options["role"]))
                self.say(f"{user} now has the role {options['role']}.")
            case "grant":
                operations.set_execute(user=user, allowed=True)
                self.say(f"{user} may launch, resume and retry plans that run code.")
            case "revoke":
                operations.set_execute(user=user, allowed=False)
                if source := operations.inherited_execute(user):
                    raise errors.Conflict(
                        f"{user} no longer has plan.execute by grant, but still has it {source}.",
                        hint="Remove plan.execute from the team in the admin, or set another role: "
                        f"{invocation.command('fleet_user', 'role', user.username, 'user')}",
                    )
                self.say(
                    f"{user} may no longer launch, resume or retry plans that run code. "
                    "Running missions continue until they are cancelled."
                )
            case "password":
                operations.set_password(user=user, password=_password(user))
                self.say(f"The password of {user} is set, and all sessions have ended.")
            case "enable" | "disable" as action:
                operations.set_active(user=user, active=action == "enable")
                self.say(f"{user} is {action}d.")
            case _:
                self.say(f"Ended {lines.counted(tokens.end(user=user), 'session')} of {user}.")
        return 0

    def _create(self, options: dict[str, Any]) -> int:
        draft = operations.draft_user(name=options["name"], teams=options["team"])
        password = None if options["no_password"] else _password(draft)
        user = operations.create_user(
            name=options["name"], role=Role(options["role"]), password=password, teams=options["team"]
        )
        self.say(f"Created {user} with the role {options['role']}.")
        return 0

    def _list(self, *, as_json: bool) -> int:
        users = [
            operations.serialize_user(user) for user in User.objects.select_related("account").order_by("username")
        ]
        if as_json:
            self.show(users)
            return 0
        rows = []
        for user in users:
            permission = "plan.execute" if user["can_execute"] else "–"
            state = "active" if user["active"] else "disabled"
            rows.append((user["name"], user["role"], state, permission, ", ".join(user["teams"]) or "–"))
        for line in lines.table(
            ("NAME", "ROLE", "STATE", "PERMISSION", "TEAMS"), rows, width=lines.columns(self.stdout)
        ):
            self.stdout.write(line)
        return 0


def _password(user: User) -> str:
    """Ask for the password at a terminal, or read one line of a pipe; never an argument, which `ps` would show."""
    try:
        if sys.stdin.isatty():
            password = getpass.getpass(f"Password of {user.username}: ")
            if getpass.getpass("Again: ") != password:
                raise errors.Invalid("The passwords do not match.", hint="Try again.")
        else:
            password = sys.stdin.readline().rstrip("\n")
    except EOFError:
        password = ""
    if not password:
        raise errors.Invalid("No password was given.", hint="Type it at a terminal, or pipe it as one line.")
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise errors.Invalid(" ".join(error.messages)) from error
    return password
