"""What missions add to lower layers: metrics, a readiness check, what `fleet_up` says, hourly work, parts of backups."""

from missions import metrics  # noqa: F401
from missions.control import hourly
from missions.operations import backups
from missions.queries import health, live_missions  # noqa: F401

hourly.register()
backups.register()
