from importlib import import_module

from django.apps import AppConfig


class CheckpointsConfig(AppConfig):
    name = "checkpoints"
    verbose_name = "Checkpoints"

    def ready(self) -> None:
        """Register when missions are captured, and the artifacts that checkpoints keep."""
        import_module("checkpoints.policy").register()
