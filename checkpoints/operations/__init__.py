"""The operations on checkpoints. Their parameters are keyword-only, as in missions.operations."""

from checkpoints.operations.adopting import adopt
from checkpoints.operations.capturing import capture, capture_all
from checkpoints.operations.comparing import Difference, diff
from checkpoints.operations.forking import Forked, fork
from checkpoints.operations.keeping import change, keep
from checkpoints.operations.planning import recovery_plan
from checkpoints.operations.removing import Pruned, delete, prune
from checkpoints.operations.restoring import Restored, restore
from checkpoints.operations.transfer.exporting import Exported, export
from checkpoints.operations.transfer.importing import Imported, import_file
from checkpoints.operations.verifying import Damage, verify

__all__ = [
    "Damage",
    "Difference",
    "Exported",
    "Forked",
    "Imported",
    "Pruned",
    "Restored",
    "adopt",
    "capture",
    "capture_all",
    "change",
    "delete",
    "diff",
    "export",
    "fork",
    "import_file",
    "keep",
    "prune",
    "recovery_plan",
    "restore",
    "verify",
]
