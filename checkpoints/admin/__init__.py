"""The admin pages of checkpoints: read-only views, and actions that call the same operations as the commands."""

from checkpoints.admin.checkpoints import CheckpointAdmin

__all__ = ["CheckpointAdmin"]
