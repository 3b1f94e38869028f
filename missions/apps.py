from importlib import import_module

from django.apps import AppConfig


class MissionsConfig(AppConfig):
    name = "missions"
    verbose_name = "Missions"

    def ready(self) -> None:
        """Register the metrics and readiness checks of missions, and how a lease token is verified, and what `fleet_up` says."""
        for module in (
            "missions.metrics",
            "missions.queries.health",
            "missions.queries.live_missions",
            "missions.attempt_tokens",
        ):
            import_module(module)
