"""Generates docs/access.md from the table of rules. Run after a change of the rules:

manage.py shell --no-imports -c "from fleet.access import rules_page; rules_page.write()"
"""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings

from fleet.access.models import Role
from fleet.access.rules import RULES, Visibility


def lines() -> Iterator[str]:
    """The lines of the page."""
    objects = {
        Visibility.ALL: "all",
        Visibility.TEAMS: "own and teams'",
        Visibility.OWN: "own",
        Visibility.ATTEMPT: "the lease's attempt",
    }
    leases = {None: "–", Visibility.ATTEMPT: "its attempt", Visibility.MISSION: "its mission"}
    yield from HEAD.splitlines()
    for action, rule in RULES.items():
        marks = [("yes" if role in rule.roles else "–") for role in Role]
        yield (
            f"| `{action}` | {rule.description}{' *' if rule.starts_code else ''} | {' | '.join(marks)} "
            f"| {objects[rule.visibility]} | {rule.scope or 'any'} | {leases[rule.lease]} |"
        )
    yield from TAIL.splitlines()


HEAD = """# Who may do what

This page is generated from one table, `fleet/access/rules.py`, which the permission check of the API and the role
matrix of the tests use too. An action that is not in the table is denied to everyone; a route without a rule fails
`manage.py check`.

- **admin**: may do everything, including the admin pages. Admins are Django superusers. The last active admin cannot be
  disabled, deleted or given another role.
- **agent**: runs sorties as an external agent, and sees the missions that it runs sorties for.
- **user**: has missions of its own, and sees those of its teams. Teams are Django groups, which admins create. Other
  missions look exactly like missing ones (404).
- **plan.execute** is a permission in addition to the role. It is required to launch your own plans that run code
  (`run`, `call`, `verify`, `driver`, `env`, `cwd`); without it, a user can launch templates and prompts. Grant it with
  `manage.py fleet_user grant NAME`. If a mission was launched with it and not from a template, it is checked again for
  each caller who resumes or retries the mission, retries one of its sorties, resolves a conflict by another attempt or
  by a change of their own, or restores or forks a checkpoint. A merge into another branch than the mission's own always
  requires it. Without it the request is refused (403, recorded in the audit trail). Revoking it does not stop running
  work; `manage.py fleet_mission cancel` does. Admins always have it. Staff who operate missions in the admin need it
  too. The commands do not check it: they act for the operator of the host.
- A **machine key** has its user's permissions, limited by its scopes: read, launch, operate, fly, manage. A key that
  was created with another key is revoked with it.
- A **lease token** allows what its column says, for its attempt or the mission of that attempt, while the attempt runs.
  An external agent gets one with each claim. The work of the fleet's own agents has one in `FLEET_TOKEN`, which can
  report but not complete or fail the sortie.

| action | description | admin | agent | user | objects | scope of a key | lease token |
|---|---|---|---|---|---|---|---|
"""
TAIL = """
\\* requires plan.execute if the plan runs code and is not a template.

For admins, "objects" is always: all. A member of a team sees its missions; only whoever launched a mission, or an
admin, can operate it. A checkpoint belongs to the user and the team that its mission had when it was captured, even
after the mission's rows are gone; a checkpoint of several missions belongs to the admins. Restoring a checkpoint over a
mission that exists requires the permission to operate that mission.

```sh
manage.py fleet_user create ann --role user                 # asks for a password; --team NAME adds it to a team
manage.py fleet_user role ann admin
manage.py fleet_user grant ann                              # plan.execute; undo with revoke
manage.py fleet_user sign-out ann                           # ends all sessions at once
manage.py fleet_key create ci --user ann --scope launch --scope read --days 90
manage.py fleet_key list
manage.py fleet_key revoke flk_3f9a1c02
```
"""


def write() -> None:
    (settings.BASE_DIR / "docs" / "access.md").write_text("\n".join(lines()) + "\n")
