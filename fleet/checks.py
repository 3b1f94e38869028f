"""System checks of the fleet. What they look at is imported when they run: most commands run none."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.core.checks import CheckMessage, Tags, register


@register(Tags.urls)
def every_route_of_the_api_has_a_rule(app_configs: Any, **options: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = import_module("fleet.api.checks").faults()
    return found
