"""What people, programs and the control loop do with checkpoints. Keyword-only functions, as in missions.operations."""

from checkpoints.operations.capturing import capture
from checkpoints.operations.restoring import Restored, restore

__all__ = ["Restored", "capture", "restore"]
