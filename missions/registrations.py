"""What missions add to lower layers: metrics, readiness, announcements, event names, hourly work, parts of backups."""

from fleet.events import naming
from missions import metrics  # noqa: F401
from missions.control import background
from missions.operations import backups
from missions.operations.workspaces import tidying
from missions.queries import health, live_missions, mission_lookup  # noqa: F401

HOUR_S = 3_600

naming.register("sortie", mission_lookup.keys)
background.register(name="copies of repositories", run=tidying.tidy, every_s=HOUR_S)
backups.register()
