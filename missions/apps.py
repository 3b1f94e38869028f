from django.apps import AppConfig

from fleet.access import leases


class MissionsConfig(AppConfig):
    name = "missions"
    verbose_name = "Missions"

    def ready(self) -> None:
        from missions.operations import outside  # noqa: PLC0415  (models cannot be imported before the apps are ready)

        leases.register(outside.fits)
