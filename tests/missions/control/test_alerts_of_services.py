"""The supervisor's reports on the services of its host become metrics and alerts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.test import Client, override_settings

from fleet.config.home import Home
from missions.control import alerts
from missions.control.alerts import AlertMonitor
from tests.support.processes.supervised import Checkout, checkout
from tests.support.waiting import until

pytestmark = [
    pytest.mark.xdist_group("services"),
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
]


@pytest.fixture(scope="module")
def supervised() -> Iterator[Checkout]:
    """Postgres and Valkey under a supervisor of their own."""
    with checkout() as new_home:
        running = new_home.start("fleet_services", "up")
        new_home.until_ready()
        yield new_home
        running.send_signal(signal.SIGTERM)
        running.wait(30)


def raised_alerts() -> dict[str, str]:
    return {alert["rule"]: alert["subject"].partition("@")[0] for alert in alerts.active()}


def test_a_service_that_is_slow_twice_in_a_row_or_large_or_silent_raises_an_alert(
    supervised: Checkout, client: Client
) -> None:
    watch = AlertMonitor()
    quiet_settings = {"FLEET_HOME": Home(supervised.root), "FLEET_ALERT_MEMORY_MB": 0, "FLEET_ALERT_RESPONSE_S": 0}
    with override_settings(**quiet_settings):
        watch.check()
        assert raised_alerts() == {}
        with override_settings(FLEET_ALERT_RESPONSE_S=1e-6):
            watch.check()
            assert raised_alerts() == {}, "one slow response raises no alert"
            watch.check()
            assert set(raised_alerts()) == {"service_slow"}
        with override_settings(FLEET_ALERT_MEMORY_MB=1, FLEET_ALERT_QUIET_S=0):
            watch.check()
            assert set(raised_alerts()) == {"service_large"}
        pid = supervised.service("valkey")["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: supervised.service("valkey")["state"] == "unhealthy")
            with override_settings(FLEET_ALERT_QUIET_S=0):
                watch.check()
            assert raised_alerts() == {"service_failed": "valkey"}
            bearer = {"Authorization": f"Bearer {settings.FLEET_CREDENTIALS.metrics_token}"}
            lines = client.get("/metrics", headers=bearer).content.decode().splitlines()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert 'fleet_service_up{service="postgres"} 1.0' in lines
        assert 'fleet_service_up{service="valkey"} 0.0' in lines
        assert 'fleet_alerts{rule="service_failed"} 1.0' in lines
        assert any(line.startswith('fleet_service_memory_bytes{service="postgres"}') for line in lines)
        assert any(line.startswith('fleet_service_response_seconds{service="postgres"}') for line in lines)
        until(lambda: supervised.service("valkey")["state"] == "healthy")
        with override_settings(FLEET_ALERT_QUIET_S=0):
            watch.check()
        assert raised_alerts() == {}


def test_without_a_supervisor_there_are_no_alerts_of_services(client: Client) -> None:
    AlertMonitor().check()
    assert raised_alerts() == {}
    bearer = {"Authorization": f"Bearer {settings.FLEET_CREDENTIALS.metrics_token}"}
    text = client.get("/metrics", headers=bearer).content.decode()
    assert "fleet_service_up{" not in text
    assert "# TYPE fleet_service_up gauge" in text
