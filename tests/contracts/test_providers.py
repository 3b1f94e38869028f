"""What all providers of services guarantee, with real servers.

`podman` and `docker` are scripted engines here. `make test-containers` uses a real podman.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
import redis

from fleet import errors
from fleet.config import credentials, datastores
from fleet.config.env import Environment
from fleet.config.home import Home
from fleet.services.providers import base
from fleet.services.providers.base import Provider
from fleet.services.providers.containers import Images
from fleet.services.supervision.service import AlertLimits, Service
from fleet.services.supervision.supervisor import Supervisor
from tests.support.postgres.cluster import Cluster, remove, temporary
from tests.support.services import containers, engines
from tests.support.services.engines import ScriptedEngine

pytestmark = pytest.mark.xdist_group("providers")

LIMITS = AlertLimits(response_s=1.5, memory_bytes=10, restarts=2)
REAL = pytest.param("real podman", marks=[pytest.mark.containers, pytest.mark.timeout(2400)])


SOCKETS = "embedded on sockets"


@pytest.fixture(params=["external", "embedded", SOCKETS, "podman", "docker", REAL])
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A home with running servers. For `external`, the provider knows only the URLs of embedded servers."""
    services = temporary(durable=False, sockets=request.param == SOCKETS)
    if request.param in {"podman", "docker"}:
        services = engines.ContainerCluster(services.home.root, engine=request.param)
        for variable, value in ScriptedEngine(services.home.root / "test", request.param).environment.items():
            monkeypatch.setenv(variable, value)
    elif request.param == "real podman":
        if why := containers.unusable():
            pytest.skip(why)
        containers.build()
        for variable, value in containers.environment().items():
            monkeypatch.setenv(variable, value)
        images = Images(postgres=containers.SERVICES, valkey=containers.SERVICES)
        services = engines.ContainerCluster(services.home.root, engine="podman", images=images)
    try:
        services.start()
        yield services
    finally:
        if isinstance(services, engines.ContainerCluster):
            services.remove_containers()
        remove(services)


@pytest.fixture
def provider(request: pytest.FixtureRequest, cluster: Cluster) -> Provider:
    name = provider_name(request)
    values = cluster.environment() if name == "external" else {"FLEET_SERVICES": name}
    if name == "embedded":
        values["FLEET_EMBEDDED_SOCKETS"] = "yes" if request.node.callspec.params["cluster"] == SOCKETS else "no"
    known = credentials.ensure(cluster.home)
    endpoints = datastores.resolve(Environment(values), cluster.home, known)
    real = "real" in request.node.callspec.params["cluster"]
    images = Images(postgres=containers.SERVICES, valkey=containers.SERVICES) if real else engines.IMAGES
    return base.choose(home=cluster.home, credentials=known, endpoints=endpoints, images=images, say=lambda line: None)


def provider_name(request: pytest.FixtureRequest) -> str:
    """The provider of a cluster."""
    cluster: str = request.node.callspec.params["cluster"]
    return cluster.removeprefix("real ").removesuffix(" on sockets")


def service(provider: Provider, name: str) -> Service:
    return next(limit for limit in provider.services(limits=LIMITS) if limit.name == name)


def probe(service: Service) -> None:
    assert service.probe is not None
    asyncio.run(asyncio.wait_for(service.probe(), 20))


def test_the_settings_choose_the_provider(provider: Provider, request: pytest.FixtureRequest) -> None:
    assert provider.name == provider.endpoints().provider
    assert provider_name(request) == provider.name


def test_a_provider_has_postgres_and_valkey_with_their_limits(provider: Provider) -> None:
    services = provider.services(limits=LIMITS)
    assert [item.name for item in services] == ["postgres", "valkey"]
    assert all(item.limits == LIMITS and item.needs == () and item.vital and not item.once for item in services)
    assert {item.command is None for item in services} == {provider.name == "external"}


def test_its_endpoints_connect_to_both_servers(provider: Provider) -> None:
    endpoints = provider.endpoints()
    at = endpoints.postgres
    with psycopg.connect(host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.name) as session:
        session.execute("SELECT count(*) FROM pg_class")
    with redis.Redis.from_url(endpoints.redis_url) as client:
        assert client.ping()


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_probe_raises_unavailable_while_its_server_does_not_answer(
    provider: Provider, cluster: Cluster, name: str
) -> None:
    item = service(provider, name)
    probe(item)
    cluster.kill(name)
    with pytest.raises(errors.Unavailable, match="does not answer"):
        probe(item)
    cluster.restart(name)
    probe(item)


def test_its_repr_contains_no_password(provider: Provider) -> None:
    endpoints = provider.endpoints()
    document = repr(endpoints) + repr(provider.services(limits=LIMITS))
    assert endpoints.postgres.password not in document
    assert endpoints.redis_url not in document


def test_a_supervisor_reports_it_healthy_and_does_not_stop_external_servers(
    provider: Provider, cluster: Cluster
) -> None:
    if provider.name != "external":
        cluster.stop()  # the supervisor starts them itself

    async def check_status() -> int:
        services = supervisor.status()["services"]
        assert [item["state"] for item in services] == ["healthy", "healthy"]
        assert all((item["pid"] is None) == (provider.name == "external") for item in services)
        return 0

    supervisor = Supervisor(
        home=Home(cluster.home.root), kind="services", provider=provider.name,
        services=provider.services(limits=AlertLimits()), say=lambda line: None,
    )  # fmt: skip
    assert asyncio.run(asyncio.wait_for(supervisor.run(check_status), 60)) == 0
    if provider.name == "external":
        probe(service(provider, "postgres"))
        probe(service(provider, "valkey"))
