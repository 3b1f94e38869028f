from importlib import import_module

from django.apps import AppConfig

from fleet.audit import signins


class FleetConfig(AppConfig):
    name = "fleet"
    verbose_name = "Fleet"

    def ready(self) -> None:
        import_module("fleet.checks")
        signins.connect()
        import_module("fleet.access.password_changes").watch()
