"""`manage.py fleet_user create|role|grant|revoke|password|enable|disable|sign-out|list`: people and programs that may sign in."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from fleet import errors, invocation
from fleet.access import operations, tokens
from fleet.access.models import Role
from fleet.console import lines
from fleet.management.operator import OperatorCommand


class Command(OperatorCommand):
    help = "Users, their roles and what they may."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="make a user; asks for the password, or reads it from a pipe")
        create.add_argument("name")
        create.add_argument("--role", choices=Role.values, default=Role.USER.value)
        create.add_argument("--team", action="append", default=[], metavar="TEAM", help="may be given again")
        create.add_argument("--no-password", action="store_true", help="signs in with machine keys only")
        role = actions.add_parser("role", help="give a user a role")
        role.add_argument("name")
        role.add_argument("role", choices=Role.values)
        for name, says in (
            ("grant", "let a user launch plans that run code, and resume and retry them (plan.execute)"),
            ("revoke", "do not let them any more; what runs goes on"),
            ("password", "set a user's password, and end all sessions"),
            ("enable", "let a user in again"),
            ("disable", "let a user in no more: sessions and keys are refused at once"),
            ("sign-out", "end all sessions of a user"),
        ):
            actions.add_parser(name, help=says).add_argument("name")
        listing = actions.add_parser("list", help="all users")
        listing.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def act(self, **options: Any) -> int:
        if options["action"] == "list":
            return self._list(as_json=options["json"])
        if options["action"] == "create":
            return self._create(options)
        user = operations.find_user(options["name"])
        match options["action"]:
            case "role":
                operations.set_role(user=user, role=Role(options["role"]))
                self.say(f"{user} has the role {options['role']} now.")
            case "grant":
                operations.set_execute(user=user, may=True)
                self.say(f"{user} may launch, resume and retry plans that run code.")
            case "revoke":
                operations.set_execute(user=user, may=False)
                if why := operations.why_executes(user):
                    raise errors.Conflict(
                        f"{user} has no plan.execute of their own, and may run code all the same: {why}.",
                        hint="Take plan.execute from the team in the admin, or give them another role: "
                        f"{invocation.command('fleet_user', 'role', user.username, 'user')}",
                    )
                self.say(
                    f"{user} may not launch, resume or retry plans that run code. What runs goes on until it is cancelled."
                )
            case "password":
                operations.set_password(user=user, password=_password(user))
                self.say(f"{user} has a new password; all sessions have ended.")
            case "enable" | "disable" as what:
                operations.set_active(user=user, active=what == "enable")
                self.say(f"{user} is {what}d.")
            case _:
                self.say(f"Ended {lines.counted(tokens.end(user=user), 'session')} of {user}.")
        return 0

    def _create(self, options: dict[str, Any]) -> int:
        draft = operations.draft_user(name=options["name"], teams=options["team"])
        password = None if options["no_password"] else _password(draft)
        user = operations.create_user(
            name=options["name"], role=Role(options["role"]), password=password, teams=options["team"]
        )
        self.say(f"Made {user}, with the role {options['role']}.")
        return 0

    def _list(self, *, as_json: bool) -> int:
        found = [operations.described(user) for user in User.objects.select_related("account").order_by("username")]
        if as_json:
            self.show(found)
            return 0
        width = lines.columns(self.stdout)
        for one in found:
            more = [f"in {', '.join(one['teams'])}"] if one["teams"] else []
            more += ["plan.execute"] if one["executes"] else []
            more += [] if one["active"] else ["disabled"]
            name, role = (lines.padded(one[what], to, width=width) for what, to in (("name", 20), ("role", 6)))
            text = f"{name} {role} {'; '.join(more)}"
            self.stdout.write(lines.fitted(text.rstrip(), width=width))
        return 0


def _password(user: User) -> str:
    """Asked for at a terminal, and a line of a pipe where there is none. Never an argument, which `ps` would show."""
    try:
        if sys.stdin.isatty():
            given = getpass.getpass(f"Password of {user.username}: ")
            if getpass.getpass("Again: ") != given:
                raise errors.Invalid("The two are not the same.", hint="Try again.")
        else:
            given = sys.stdin.readline().rstrip("\n")
    except EOFError:
        given = ""
    if not given:
        raise errors.Invalid("No password was given.", hint="Type it at a terminal, or pipe it as one line.")
    try:
        validate_password(given, user)
    except ValidationError as fault:
        raise errors.Invalid(" ".join(fault.messages)) from fault
    return given
