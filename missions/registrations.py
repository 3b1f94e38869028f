"""What missions add to lower layers: metrics, a readiness check, announcements, names of sorties in events, hourly work
and parts of backups."""

from fleet.events import naming
from missions import metrics  # noqa: F401
from missions.control import hourly
from missions.operations import backups
from missions.queries import health, live_missions, reads  # noqa: F401

naming.register("sortie", reads.keys)
hourly.register()
backups.register()
