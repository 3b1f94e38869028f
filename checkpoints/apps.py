from importlib import import_module

from django.apps import AppConfig


class CheckpointsConfig(AppConfig):
    name = "checkpoints"
    verbose_name = "Checkpoints"

    def ready(self) -> None:
        """Register automatic captures, the artifacts that checkpoints use, and what belongs to a backup."""
        import_module("checkpoints.policy").register()
        import_module("checkpoints.backups").register()
