"""What people, programs and the control loop do with checkpoints. Keyword-only functions, as in missions.operations."""

from checkpoints.operations.adopting import adopt
from checkpoints.operations.capturing import capture
from checkpoints.operations.forking import Forked, fork
from checkpoints.operations.removing import Pruned, delete, prune
from checkpoints.operations.restoring import Restored, restore
from checkpoints.operations.verifying import Damage, newest_intact, verify

__all__ = [
    "Damage",
    "Forked",
    "Pruned",
    "Restored",
    "adopt",
    "capture",
    "delete",
    "fork",
    "newest_intact",
    "prune",
    "restore",
    "verify",
]
