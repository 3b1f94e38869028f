"""What people and programs can do with checkpoints. One module per operation; parameters are keyword-only.

The interfaces call the functions that are exported here, and so may other packages. `artifacts` says which artifacts
checkpoints name; `transfer` has export and import. This package does not import the interfaces, `policy` or `queries`.
"""

from checkpoints.operations.adopting import adopt
from checkpoints.operations.capturing import capture, capture_all
from checkpoints.operations.changing import change
from checkpoints.operations.comparing import Difference, diff
from checkpoints.operations.forking import ForkResult, fork
from checkpoints.operations.planning import recovery_plan
from checkpoints.operations.removing import PruneResult, delete, prune
from checkpoints.operations.restoring import MissionRestoreResult, restore
from checkpoints.operations.transfer.exporting import ExportResult, export
from checkpoints.operations.transfer.importing import ImportResult, import_file
from checkpoints.operations.verifying import Damage, verify

__all__ = [
    "Damage",
    "Difference",
    "ExportResult",
    "ForkResult",
    "ImportResult",
    "MissionRestoreResult",
    "PruneResult",
    "adopt",
    "capture",
    "capture_all",
    "change",
    "delete",
    "diff",
    "export",
    "fork",
    "import_file",
    "prune",
    "recovery_plan",
    "restore",
    "verify",
]
