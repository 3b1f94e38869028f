from importlib import import_module

from django.apps import AppConfig


class CheckpointsConfig(AppConfig):
    name = "checkpoints"
    verbose_name = "Checkpoints"

    def ready(self) -> None:
        """Register automatic captures, and the artifacts that checkpoints use."""
        import_module("checkpoints.policy").register()
