"""The fleet's system checks. They import what they check when they run, because most commands run none."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

from fleet import lease

TAG = "fleet"


@register(Tags.urls)
def check_route_rules(app_configs: Any, **options: Any) -> list[CheckMessage]:
    problems: list[CheckMessage] = import_module("fleet.api.checks").problems()
    return problems


@register(TAG)
def check_lease_duration(app_configs: Any, **options: Any) -> list[CheckMessage]:
    lease_s, grace_s, renew_s = settings.FLEET_LEASE_S, settings.FLEET_GRACE_S, settings.FLEET_RENEW_S
    shortest_s = lease.shortest_s(grace_s=grace_s, renew_s=renew_s)
    if lease_s >= shortest_s:
        return []
    return [
        Error(
            f"FLEET_LEASE_S is {lease_s:g} s, too short to stop a workload before its lease ends: with FLEET_GRACE_S at "
            f"{grace_s:g} s and FLEET_RENEW_S at {renew_s:g} s it must be at least {shortest_s:.4g} s.",
            hint="Raise FLEET_LEASE_S on every host of the fleet, or lower FLEET_GRACE_S or FLEET_RENEW_S.",
            id="fleet.E002",
        )
    ]


NO_SANDBOX = (
    "FLEET_SANDBOX=off: workloads run without a sandbox. They can read the fleet's credentials, and change the fleet's "
    "code and data and all files of its user."
)
