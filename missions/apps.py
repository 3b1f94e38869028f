from importlib import import_module

from django.apps import AppConfig


class MissionsConfig(AppConfig):
    name = "missions"
    verbose_name = "Missions"

    def ready(self) -> None:
        """Register the metrics and readiness checks of missions, how a lease token is verified, what `fleet_up` says,
        what the control process does every hour, and what belongs to a backup."""
        for module in (
            "missions.metrics",
            "missions.queries.health",
            "missions.queries.live_missions",
            "missions.attempt_tokens",
        ):
            import_module(module)
        import_module("missions.control.hourly").register()
        import_module("missions.operations.backups").register()
