"""One shared embedded cluster for the whole run; each xdist worker has a database, a Redis index and a home of its own.

The settings say where the services are, so the cluster starts before they are loaded: pytest-django finds no settings
module in pyproject.toml, and takes the one that is named here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.postgres import cluster, templates
from tests.support.processes import child_coverage

SHARED = pytest.StashKey[cluster.Cluster]()
MOST_REPEATED = 5  # so many failures may be due to the load; more are due to the code

# The duration of an example depends on the machine more than on the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    # Under nohup, or after & in a script, these signals are ignored. All processes of the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if hasattr(config, "workerinput"):
        name = config.workerinput["workerid"]
        shared = cluster.Cluster(Path(os.environ["FLEET_HOME"]), durable=False)  # started by the first process
        own = {"FLEET_HOME": str(shared.home.root / name)}  # so that workers do not share files either
        os.environ.update(shared.environment(redis_index=1 + int(name.removeprefix("gw")) % 63) | own)
        child_coverage.withhold()
    else:
        urls = ("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_DIRECT_URL", "REDIS_URL")
        for name in (*urls, "FLEET_REDIS_INDEX"):
            os.environ.pop(name, None)  # the tests never touch services that they did not start
        templates.create()
        shared = cluster.temporary(durable=False)
        config.stash[SHARED] = shared
        os.environ["FLEET_HOME"] = str(shared.home.root)
        try:
            shared.start()
        except BaseException:
            cluster.remove(shared)
            raise
        os.environ.update(shared.environment())
    # The tests start hundreds of processes, each of which would compile the project otherwise.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    os.environ["FLEET_SCRIPTED_DRIVER"] = "yes"
    for kind in ("IP", "AUTH", "SESSION"):
        os.environ[f"FLEET_LIMIT_{kind}"] = "off"  # all tests come from one address, and their users have few ids
    os.environ["DJANGO_SETTINGS_MODULE"] = "fleet.settings"
    from django.conf import settings  # noqa: PLC0415  (not before the lines above)

    if str(settings.FLEET_HOME.root) != os.environ["FLEET_HOME"]:
        pytest.exit(
            "The settings were loaded before the tests' own services were there: unset DJANGO_SETTINGS_MODULE.", 4
        )
    settings.PASSWORD_HASHERS = ["tests.support.passwords.FastHasher"]
    del os.environ[
        "DJANGO_SETTINGS_MODULE"
    ]  # otherwise the xdist workers would load them before they know their Redis index


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse a version of pytest with which pytest-xdist ignores groups, which would start fleets on all workers."""
    if getattr(config.option, "loadgroup", False):
        for item in items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid.rpartition("]")[2]:
                pytest.exit("pytest-xdist ignores `xdist_group` with this version of pytest. Run `make dev`.", 4)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Remove the settings module again: the Celery application also sets it when Django's setup imports it."""
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--list-failed", metavar="FILE", type=Path, help=f"list the failed tests, up to {MOST_REPEATED}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the failed tests for `make test`, which repeats them without anything beside them."""
    failed = {
        _without_group(report.nodeid)
        for outcome in ("failed", "error")
        for report in terminalreporter.stats.get(outcome, [])
    }
    if (file := config.getoption("list_failed")) and 0 < len(failed) <= MOST_REPEATED:
        file.write_text("".join(f"{test}\n" for test in sorted(failed)))


def _without_group(test: str) -> str:
    """The id of a test as pytest knows it. pytest-xdist appends @ and its group."""
    name, parameters_end, rest = test.rpartition("]")
    return name + parameters_end + rest.partition("@")[0]


def pytest_unconfigure(config: pytest.Config) -> None:
    if (shared := config.stash.get(SHARED, None)) is not None:
        cluster.remove(shared)
        templates.remove()


@pytest.fixture(scope="session", autouse=True)
def delegated_cgroup() -> None:
    """Limit attempts by cgroups where a node would do so."""
    from agents.confinement import cgroups  # noqa: PLC0415  (imports Django's settings)

    cgroups.activate()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    from tests.support.postgres import emptying  # noqa: PLC0415  (imports Django's)

    with django_db_blocker.unblock():
        emptying.install()
    yield
    emptying.close()


@pytest.fixture
def subprocess_environment(transactional_db: None) -> dict[str, str]:
    """The variables with which a subprocess uses this test's own database and Redis index."""
    from django.conf import settings  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    endpoints = settings.FLEET_ENDPOINTS
    assert endpoints.owner is not None
    name = connection.settings_dict["NAME"]
    return {
        **os.environ,
        "DATABASE_URL": cluster.url(endpoints.postgres, database=name),
        "DATABASE_OWNER_URL": cluster.url(endpoints.owner, database=name),
        "REDIS_URL": endpoints.redis_url,
    }


@pytest.fixture
def engine(transactional_db: None) -> Iterator[Any]:
    """A started engine of type backend (missions.engine.process.runtime.Engine), without a Celery worker."""
    from tests.support import fleet  # noqa: PLC0415  (imports Django's)

    started = fleet.engine()
    yield started
    started.stop(within_s=5)


@pytest.fixture
def private_services() -> Iterator[cluster.Cluster]:
    """A durable Postgres and Valkey of this test's own, to kill, restart, pause and flush."""
    private = cluster.temporary(durable=True)
    try:
        private.start()
        yield private
    finally:
        cluster.remove(private)


@pytest.fixture(scope="module")
def host_group(django_db_setup: None, django_db_blocker: Any) -> Iterator[Any]:
    """A database and a control loop for the hosts that the module's tests add (tests/support/processes/hosts.py)."""
    from tests.support.processes import hosts  # noqa: PLC0415  (imports Django's)

    with hosts.host_group(django_db_blocker) as group:
        yield group
