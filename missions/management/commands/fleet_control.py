"""`manage.py fleet_control`: the control loop. `fleet_up` runs it; two at once are safe."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from fleet.celery import app
from fleet.management import shutdown
from fleet.observability import logs
from fleet.services.supervision import beats
from missions.control.loop import ControlLoop
from missions.hints import HintPublisher


class Command(BaseCommand):
    help = "Run the control loop: admit, wake, hint, rescue, complete. Ends on SIGTERM or Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        logs.enable_info()
        ending = shutdown.stop_event()
        hint_publisher = HintPublisher(app)
        hint_publisher.start()
        ControlLoop(hint_publisher=hint_publisher).run(
            ending=ending, on_beat=lambda: beats.beat(settings.FLEET_HOME, "fleet_control")
        )
        hint_publisher.stop()
