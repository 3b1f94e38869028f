"""What people, programs and the control loop do with checkpoints. Keyword-only functions, as in missions.operations."""

from checkpoints.operations.capturing import capture
from checkpoints.operations.forking import Forked, fork
from checkpoints.operations.restoring import Restored, restore

__all__ = ["Forked", "Restored", "capture", "fork", "restore"]
