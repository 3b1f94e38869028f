"""Rate limits admit exactly the allowed number of concurrent requests, with Redis and without."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache import caches
from django.db import OperationalError, connection
from django.http import HttpRequest
from django.test import RequestFactory, override_settings

from fleet import ids
from fleet.audit.models import Entry
from fleet.limits import cache, counting
from fleet.limits.counting import RemainingQuota
from fleet.limits.rates import Rate, RequestKind, parse_overrides
from tests.support.postgres.cluster import Cluster
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)  # refusals are recorded

HOUR = 3_600  # so long that no window ends during a test
CLIENTS = 50


def new_request() -> HttpRequest:
    return RequestFactory().get("/")


def spend(bucket: str, count: int) -> RemainingQuota:
    return counting.spend(request=new_request(), bucket=bucket, rate=Rate(count, HOUR))


@pytest.fixture
def bucket() -> Iterator[str]:
    caches["default"].clear()
    yield "test"
    caches["default"].clear()


def run_concurrently(function: Callable[[], RemainingQuota], times: int) -> list[RemainingQuota]:
    """The quotas that 50 concurrent clients get."""
    together = threading.Barrier(CLIENTS)

    def client() -> list[RemainingQuota]:
        together.wait()
        try:
            return [function() for _ in range(times)]
        finally:
            connection.close()

    with ThreadPoolExecutor(CLIENTS) as clients:
        values = [clients.submit(client) for _ in range(CLIENTS)]
        return [quota for item in values for quota in item.result()]


def test_exactly_the_allowed_number_of_fifty_concurrent_clients_passes(bucket: str) -> None:
    result = run_concurrently(lambda: spend(bucket, 120), 4)
    passed = [item for item in result if not item.refused]
    assert len(passed) == 120
    assert sorted(item.remaining for item in passed) == list(range(120))
    assert all(item.limit == 120 and 0 < item.reset_s <= HOUR for item in result)


def test_buckets_are_independent(bucket: str) -> None:
    assert [spend("a", 1).refused, spend("a", 1).refused, spend("b", 1).refused] == [False, True, False]


def test_a_route_with_its_own_rate_is_counted_separately(bucket: str) -> None:
    with override_settings(FLEET_LIMIT_IP=Rate(1, HOUR), FLEET_LIMITS=parse_overrides("route:missions.create=2/h")):

        def is_refused(route: str) -> bool:
            return counting.charge(request=new_request(), kind=RequestKind.IP, route=route).refused

        assert [is_refused("missions.list"), is_refused("missions.list")] == [False, True]
        assert [is_refused("missions.create") for _ in range(3)] == [False, False, True]


def test_ten_agents_of_one_host_have_separate_limits(bucket: str) -> None:
    with override_settings(FLEET_LIMIT_AGENT=Rate(3, HOUR), FLEET_LIMIT_IP=Rate(1, HOUR)):
        for agent in range(10):
            values = [
                counting.charge(request=new_request(), kind=RequestKind.AGENT, identity=f"agt_{agent}")
                for _ in range(3)
            ]
            assert not any(item.refused for item in values)


def test_without_a_limit_there_is_no_cost_and_no_header(bucket: str) -> None:
    assert counting.headers(counting.spend(request=new_request(), bucket=bucket, rate=Rate(0))) == {}


def test_the_headers_report_the_remaining_requests(bucket: str) -> None:
    first, second = spend(bucket, 1), spend(bucket, 1)
    assert counting.headers(first) == {
        "RateLimit-Limit": "1", "RateLimit-Remaining": "0", "RateLimit-Reset": str(first.reset_s),
    }  # fmt: skip
    assert counting.headers(second)["Retry-After"] == str(second.reset_s)


def test_the_first_refusal_of_a_window_is_recorded_once() -> None:
    bucket = f"test {ids.new()}"  # the audit trail contains entries of other tests
    run_concurrently(lambda: spend(bucket, 10), 1)
    result = Entry.objects.filter(kind="limit", subject=bucket).values("outcome", "data")
    assert list(result) == [{"outcome": "denied", "data": {"limit": 10, "seconds": HOUR}}]


def test_a_refusal_does_not_need_the_database(bucket: str) -> None:
    with connection.execute_wrapper(_broken):
        assert [spend(bucket, 1).refused for _ in range(2)] == [False, True]


def _broken(*args: object) -> None:
    raise OperationalError("Postgres is away")


def test_without_redis_each_process_counts_for_itself_until_redis_returns(private_services: Cluster) -> None:
    url = private_services.endpoints().redis_url
    cache_settings = {"default": {"BACKEND": "fleet.limits.cache.Cache", "LOCATION": url}}
    with override_settings(CACHES=cache_settings):
        assert [spend("here", 2).refused for _ in range(3)] == [False, False, True]
        private_services.kill("valkey")

        start = time.monotonic()
        result = run_concurrently(lambda: spend("away", 20), 2)
        assert sum(not item.refused for item in result) == 20
        assert time.monotonic() - start < 20 * cache.TIMEOUT_S, "it gives up once, and not for every request"

        private_services.restart("valkey")

        def is_counted_in_redis() -> bool:
            caches["default"].delete("back")
            caches["default"].add("back", 1)
            return _known("back", private_services)

        until(is_counted_in_redis, within_s=10 * cache.RETRY_S)
        result = run_concurrently(lambda: spend("again", 20), 2)
        assert sum(not item.refused for item in result) == 20


def _known(key: str, services: Cluster) -> bool:
    """Whether Redis has the key."""
    other_process = cache.FallbackClient((services.endpoints().redis_url,))
    return bool(other_process.has_key(f":1:{key}"))


def test_killing_redis_refuses_nobody_wrongly(private_services: Cluster) -> None:
    url = private_services.endpoints().redis_url
    with override_settings(CACHES={"default": {"BACKEND": "fleet.limits.cache.Cache", "LOCATION": url}}):
        timer = threading.Timer(0.05, lambda: private_services.kill("valkey"))
        timer.start()
        result = run_concurrently(lambda: spend("middle", 10_000), 20)
        timer.join()
        assert not any(item.refused for item in result)
        assert all(item.limit == 10_000 for item in result)


def test_a_hanging_redis_is_abandoned_quickly(private_services: Cluster) -> None:
    url = private_services.endpoints().redis_url
    with override_settings(CACHES={"default": {"BACKEND": "fleet.limits.cache.Cache", "LOCATION": url}}):
        spend("hang", 5)
        private_services.pause("valkey")
        try:
            start = time.monotonic()
            assert [spend("hang", 5).refused for _ in range(6)] == [*[False] * 5, True]
            assert time.monotonic() - start < 10 * cache.TIMEOUT_S
        finally:
            private_services.resume("valkey")
