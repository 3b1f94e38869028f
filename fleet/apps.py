from importlib import import_module
from typing import Any

from django.apps import AppConfig, apps

from fleet.audit import signins


class FleetConfig(AppConfig):
    name = "fleet"
    verbose_name = "Fleet"

    def ready(self) -> None:
        _call_groups_teams()
        import_module("fleet.checks")
        signins.connect()
        import_module("fleet.access.password_changes").watch()


def _call_groups_teams() -> None:
    """Call Django's groups teams on all pages. Migrations keep the names that Django declares, so none is needed."""
    team: Any = apps.get_model("auth", "Group")._meta
    team.verbose_name, team.verbose_name_plural = "team", "teams"
    membership: Any = apps.get_model("auth", "User")._meta.get_field("groups")
    membership.verbose_name = "teams"
