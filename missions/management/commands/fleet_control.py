"""`manage.py fleet_control`: the control loop. `fleet_up` runs it; two at once are safe."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from fleet import checks
from fleet.celery import app
from fleet.management import shutdown
from fleet.management.operator import OperatorCommand
from fleet.observability import logs
from fleet.services.supervision import beats
from missions.control.loop import ControlLoop
from missions.hints import HintPublisher


class Command(OperatorCommand):
    acts_as_system = True
    requires_system_checks = [checks.TAG]
    help = "Run the control loop: admit, wake, hint, rescue, complete. Ends on SIGTERM or Ctrl-C."

    def act(self, **options: Any) -> int:
        logs.enable_info()
        ending = shutdown.stop_event()
        hint_publisher = HintPublisher(app)
        hint_publisher.start()
        ControlLoop(hint_publisher=hint_publisher).run(
            ending=ending, on_beat=lambda: beats.beat(settings.FLEET_HOME, "fleet_control")
        )
        hint_publisher.stop()
        return 0
