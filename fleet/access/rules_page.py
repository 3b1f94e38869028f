"""Generates docs/access.md from the table of rules. Run after a change of the rules:

manage.py shell --no-imports -c "from fleet.access import rules_page; rules_page.write()"
"""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings

from fleet.access.models import Role
from fleet.access.rules import RULES, SCOPES, Visibility


def lines() -> Iterator[str]:
    """The lines of the page."""
    objects = {
        Visibility.ALL: "all",
        Visibility.TEAMS: "own and teams'",
        Visibility.OWN: "own",
        Visibility.ATTEMPT: "the lease's attempt",
    }
    leases = {None: "–", Visibility.ATTEMPT: "its attempt", Visibility.MISSION: "its mission"}
    scopes = "\n".join(f"  - `{scope}`: {allows}" for scope, allows in SCOPES.items())
    yield from HEAD.replace("SCOPES", scopes).splitlines()
    for action, rule in RULES.items():
        marks = [("yes" if role in rule.roles else "–") for role in Role]
        yield (
            f"| `{action}` | {rule.description}{' *' if rule.starts_code else ''} | {' | '.join(marks)} "
            f"| {objects[rule.visibility]} | {rule.scope or 'any'} | {leases[rule.lease]} |"
        )
    yield from TAIL.splitlines()


HEAD = """# Roles and permissions

What a caller may do depends on the user's role and, to run code, on the permission `plan.execute`. Everything that
this page does not allow is denied.

- **admin** may do everything, including the admin pages. Admins are Django superusers. The last active admin cannot be
  disabled, deleted or given another role.
- **user** may launch missions, operate them, and see those of the user's teams. Teams are Django groups, which admins
  create.
- **agent** may run sorties as an external agent, and see the missions of these sorties.
- A **machine key** has its user's permissions, limited by its scopes. A key that was created with another key is
  revoked with it.
SCOPES
- A **lease token** allows what its column says, for its attempt or that attempt's mission, while the attempt runs. An
  external agent gets one with each claim, which is refused once its user is disabled, deleted or given another role.
  Sorties of the fleet's own agents have one in `FLEET_TOKEN`, which can report but not complete or fail the sortie.

Objects outside the caller's visibility look exactly like missing ones (404).

```sh
fleet user create ann --role user                 # asks for a password; --team NAME adds it to a team
fleet user role ann admin
fleet user grant ann                              # plan.execute; undo with revoke
fleet user sign-out ann                           # ends all sessions immediately
fleet key create ci --user ann --scope launch --scope read --days 90
fleet key list
fleet key revoke flk_3f9a1c02
```

## plan.execute

A user needs `plan.execute` to launch their own plans that run code (`run`, `call`, `verify`, `driver`, `env`, `cwd`,
`workspace`). Without it, a user can launch templates and prompts. Admins always have it. Staff who operate missions in
the admin need it too. Commands do not check it, because they act for the host's operator.

- A mission that a user with `plan.execute` launched, and not from a template, may contain code, if only in sorties that
  its agents added. So whoever starts its work again needs the permission too: for `resume`, `retry` (of the mission or
  of a sortie), a restore or fork of a checkpoint, and a conflict that is resolved by another attempt or by the caller's
  own change. A merge into a branch other than the mission's always requires it. Refusals (403) are recorded in the
  audit trail.
- A template's folder, `readable` and secrets are for its own code. The fork of a mission that was launched from a
  template may be edited only by users who may edit templates (admins, and staff with `plan.execute` who may change
  templates), and only they may resolve a conflict of such a mission with a change of their own. If the template was
  changed, disabled or deleted since, only they may fork it with new `params`.
- Revoking it does not stop running sorties; `manage.py fleet_mission cancel` does.

## Actions

This table is generated from `fleet/access/rules.py`, which also drives the API's permission check and the role matrix
of the tests. A route without a rule fails `manage.py check`.

| action | description | admin | agent | user | objects | scope of a key | lease token |
|---|---|---|---|---|---|---|---|
"""
TAIL = """
\\* requires plan.execute if the plan runs code and is not a template.

- For admins, "objects" is always: all.
- Members of a team see its missions. Only the user who launched a mission, or an admin, can operate it.
- A checkpoint belongs to the user and team of its mission at the time of the capture, even after the mission's rows are
  gone. A checkpoint of several missions belongs to the admins.
- Restoring a checkpoint over an existing mission requires the permission to operate that mission.
"""


def write() -> None:
    (settings.BASE_DIR / "docs" / "access.md").write_text("\n".join(lines()) + "\n")
