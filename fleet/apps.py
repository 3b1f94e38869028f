from importlib import import_module

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules

from fleet.audit import signins


class FleetConfig(AppConfig):
    name = "fleet"
    verbose_name = "Fleet"

    def ready(self) -> None:
        """Let the apps above register what they have to tell Prometheus and whoever asks whether all is well, and how a
        lease token is told."""
        autodiscover_modules("metrics", "health", "leases")
        import_module("fleet.checks")
        signins.connect()
