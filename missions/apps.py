from importlib import import_module

from django.apps import AppConfig


class MissionsConfig(AppConfig):
    name = "missions"
    verbose_name = "Missions"

    def ready(self) -> None:
        """Register how a lease token is verified."""
        import_module("missions.attempt_tokens")
