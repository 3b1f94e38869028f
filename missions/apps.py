from importlib import import_module

from django.apps import AppConfig


class MissionsConfig(AppConfig):
    name = "missions"
    verbose_name = "Missions"

    def ready(self) -> None:
        """Register metrics, readiness checks, the announcement of live missions, the verification of lease tokens, hourly
        duties and the parts of a backup."""
        for module in (
            "missions.metrics",
            "missions.queries.health",
            "missions.queries.live_missions",
            "missions.attempt_tokens",
        ):
            import_module(module)
        import_module("missions.control.hourly").register()
        import_module("missions.operations.backups").register()
