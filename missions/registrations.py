"""What missions add to lower layers: metrics, readiness, announcements, event names, hourly work, parts of backups."""

from fleet.events import naming
from missions import metrics  # noqa: F401
from missions.control import hourly
from missions.operations import backups
from missions.queries import health, live_missions, reads  # noqa: F401

naming.register("sortie", reads.keys)
hourly.register()
backups.register()
