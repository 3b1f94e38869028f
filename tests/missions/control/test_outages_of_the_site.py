"""External agents reach the fleet only through the site, so an outage of the site ends none of their leases."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.conf import settings
from django.db.models.functions import Now

from agents.models import Agent
from fleet.web import uptime
from fleet.web.models import Uptime
from missions.attempt_tokens import StaleLease
from missions.control import duties
from missions.models import Attempt, Sortie
from missions.operations import external_agents
from missions.operations.external_agents import Lease
from tests.support import fleet
from tests.support.work import ledger

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

LEASE = timedelta(seconds=settings.FLEET_LEASE_S)


@pytest.fixture
def agent() -> UUID:
    return external_agents.register(agent_type="backend", concurrency=4).id


@pytest.fixture
def lease(agent: UUID) -> Lease:
    """A lease that was claimed after the site had been up for an hour."""
    fleet.launch({"one": {}})
    record_uptime(up=timedelta(hours=1))
    (new_lease,) = external_agents.claim(agent=agent)
    return new_lease


def record_uptime(*, up: timedelta, away: timedelta = timedelta(0)) -> None:
    """Record that the site was up for `up`, and has been down for `away` since then."""
    Uptime.objects.all().delete()
    Uptime.objects.create(id=1, up_since=Now() - up - away, heartbeat_at=Now() - away)


def expire_lease(agent: UUID, *, ago: timedelta = timedelta(seconds=10)) -> None:
    """Let the lease of an agent end `ago`, with its last heartbeat as long before that."""
    Sortie.objects.filter(agent=agent).update(lease_until=Now() - ago)
    Agent.objects.filter(id=agent).update(heartbeat_at=Now() - ago - LEASE)


def run_duties() -> None:
    duties.expire()
    duties.rescue()


def test_a_lease_that_expires_during_an_outage_is_kept(agent: UUID, lease: Lease) -> None:
    record_uptime(up=timedelta(hours=1), away=timedelta(seconds=40))
    expire_lease(agent)
    run_duties()
    assert Sortie.objects.get().state == "running"
    uptime.record_heartbeat()  # the site is back
    run_duties()
    assert (Sortie.objects.get().state, Sortie.objects.get().attempt) == ("running", 1)
    assert external_agents.complete(token=lease.token, result=1) == "succeeded"
    assert Sortie.objects.get().rescues == 0
    assert Attempt.objects.get().state == "succeeded"
    ledger.check(lease.mission)


def test_after_an_outage_the_agent_renews_and_claims_again(agent: UUID, lease: Lease) -> None:
    record_uptime(up=timedelta(hours=1), away=timedelta(seconds=40))
    expire_lease(agent)
    run_duties()
    uptime.record_heartbeat()
    assert external_agents.heartbeat(agent=agent, tokens=[lease.token]).renewed == {lease.token}
    until = Sortie.objects.get().lease_until
    assert until is not None
    assert Sortie.objects.filter(lease_until__gt=Now()).exists()
    fleet.launch({"two": {}})
    assert len(external_agents.claim(agent=agent)) == 1


def test_an_agent_that_does_not_return_is_lost_a_full_lease_after_the_outage(agent: UUID, lease: Lease) -> None:
    expire_lease(agent, ago=timedelta(minutes=5))
    record_uptime(up=LEASE - timedelta(seconds=5))
    run_duties()
    assert Sortie.objects.get().state == "running"
    record_uptime(up=LEASE + timedelta(seconds=5))
    run_duties()
    assert Sortie.objects.get().state == "queued"
    assert Agent.objects.get(id=agent).state == "lost"
    with pytest.raises(StaleLease):
        external_agents.complete(token=lease.token)


def test_without_an_outage_leases_expire_normally(agent: UUID, lease: Lease) -> None:
    expire_lease(agent)
    run_duties()
    assert Sortie.objects.get().state == "queued"
    assert Sortie.objects.get().rescues == 1


def test_the_fleets_own_agents_do_not_depend_on_the_site() -> None:
    fleet.launch({"one": {}})
    engine = fleet.engine()
    engine.committer.settle_and_claim(max_claims=1)
    record_uptime(up=timedelta(hours=1), away=timedelta(hours=1))
    Sortie.objects.update(lease_until=Now() - timedelta(seconds=1))
    run_duties()
    assert Sortie.objects.get().state == "queued"
    engine.stop(within_s=1)


def test_an_agent_that_leaves_or_is_ended_returns_its_work_even_during_an_outage(agent: UUID, lease: Lease) -> None:
    record_uptime(up=timedelta(hours=1), away=timedelta(hours=1))
    external_agents.leave(agent=agent)
    assert Sortie.objects.get().state == "queued"


def test_a_gap_starts_a_new_uptime_and_two_processes_share_one() -> None:
    record_uptime(up=timedelta(hours=1), away=timedelta(seconds=uptime.GAP_S - 3))
    for _ in range(2):
        uptime.record_heartbeat()
    assert uptime.has_been_up(for_s=3_000)
    record_uptime(up=timedelta(hours=1), away=timedelta(seconds=uptime.GAP_S + 1))
    assert not uptime.has_been_up(for_s=0)
    uptime.record_heartbeat()
    assert not uptime.has_been_up(for_s=30)
    assert Uptime.objects.filter(up_since__gt=Now() - timedelta(seconds=60)).exists()
