"""docs/access.md, made from the table. After a change of the rules:

manage.py shell --no-imports -c "from fleet.access import rules_page; rules_page.write()"
"""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings

from fleet.access.models import Role
from fleet.access.rules import RULES, Reach


def lines() -> Iterator[str]:
    """The page."""
    reaches = {
        Reach.ALL: "all",
        Reach.SEEN: "own, and the teams'",
        Reach.OWN: "own",
        Reach.HELD: "the attempt whose lease is shown",
    }
    leases = {None: "–", Reach.HELD: "its attempt", Reach.FLOWN: "its mission"}
    yield from HEAD.splitlines()
    for action, rule in RULES.items():
        marks = [("yes" if role in rule.roles else "–") for role in Role]
        reach = reaches[rule.reach]
        says = f"{rule.says} (code that is no template's: with plan.execute)" if rule.starts else rule.says
        yield f"| `{action}` | {says} | {' | '.join(marks)} | {reach} | {rule.scope or 'any'} | {leases[rule.lease]} |"
    yield from TAIL.splitlines()


HEAD = """# Who may do what

This page is made from one table, `fleet/access/rules.py`, from which the API's permission class and the tests' role matrix are
made too. What is not in it is allowed to nobody; a route without a rule fails `manage.py check`.

- **admin**: everything, and the admin pages. An admin is a superuser. The last one who is active cannot be disabled, deleted or
  given another role.
- **agent**: flies sorties from outside; sees the missions that it flies for.
- **user**: has missions of its own and sees those of its teams, which are Django's groups; an admin makes them. Of other missions
  a user is not told that they are there (404).
- **plan.execute** is a permission beside the role: who has it may launch plans of their own that run code (`run`, `call`, `verify`,
  `driver`, `env`, `cwd`). Who does not launches templates and prompts. `manage.py fleet_user grant NAME` gives it. It is asked for
  again at each start, of whoever makes it start: `resume`, `retry` and the retry of a sortie are refused (403, and an entry in the
  audit trail) to who has it no more, for missions that were launched with it and from no template. Taking it away stops nothing
  that runs: `manage.py fleet_mission cancel` does. Admins always have it; staff that operates missions on the admin's pages needs
  it too; commands are the operator's.
- A **machine key** may what its user may, within its scopes: read, launch, operate, fly, manage. A key that was made with
  another one is revoked with it.
- A **lease token** may what its column says, with its attempt or its mission, as long as that attempt is the running one. An agent
  from outside gets one with each claim; what the fleet's own agents start has one as `FLEET_TOKEN`, which reports but ends nothing.

| action | may | admin | agent | user | which things | scope of a key | a lease token |
|---|---|---|---|---|---|---|---|
"""
TAIL = """
For admins the column "which things" is: all. Seeing a team's mission is not operating it: that is for who launched it.

```sh
manage.py fleet_user create ann --role user                 # asks for a password; --team NAME for a team that is there
manage.py fleet_user role ann admin
manage.py fleet_user grant ann                              # plan.execute; revoke takes it back
manage.py fleet_user sign-out ann                           # ends all sessions, at once
manage.py fleet_key create ci --user ann --scope launch --scope read --days 90
manage.py fleet_key list
manage.py fleet_key revoke flk_3f9a1c02
```
"""


def write() -> None:
    (settings.BASE_DIR / "docs" / "access.md").write_text("\n".join(lines()) + "\n")
