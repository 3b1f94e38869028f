"""The embedded Postgres starts on the data of any earlier run: after a kill, a reboot, or with other settings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from fleet import errors
from fleet.config import credentials, programs
from fleet.config.home import Home
from fleet.services.providers import embedded
from fleet.services.supervision.service import AlertLimits
from tests.support.postgres import cluster
from tests.support.postgres.cluster import Cluster


@pytest.fixture
def stopped() -> Iterator[Cluster]:
    """The data of a Postgres that does not run."""
    private = cluster.temporary(durable=False)
    yield private
    cluster.remove(private)


def data_of(private: Cluster) -> Path:
    return private.home.private / embedded.DATA


def prepare(private: Cluster) -> None:
    """What the supervisor does before it starts the server."""
    postgres, _ = private.embedded.services(limits=AlertLimits())
    assert postgres.command is not None
    postgres.command()


def test_a_server_that_a_killed_supervisor_left_is_stopped_before_the_next_one(private_services: Cluster) -> None:
    left = psutil.Process(private_services.pid("postgres"))
    embedded.clear_stale_server(data_of(private_services))
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
    assert not (data_of(private_services) / "postmaster.pid").exists()
    log = (private_services.home.logs / "postgres.log").read_text()
    assert "received fast shutdown request" in log, "it was not killed"
    private_services.restart("postgres")


def test_another_program_with_the_pid_of_the_server_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"], cwd=tmp_path) as stranger:
        (tmp_path / "postmaster.pid").write_text(f"{stranger.pid}\n{tmp_path}\n")
        embedded.clear_stale_server(tmp_path)
        ended = stranger.poll()
        stranger.kill()
    assert ended is None
    assert not (tmp_path / "postmaster.pid").exists()


@pytest.mark.parametrize("text", ["", "\0\0\0", "99999999\n"])
def test_a_damaged_pid_file_does_not_prevent_a_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "postmaster.pid").write_text(text)
    embedded.clear_stale_server(tmp_path)
    assert not (tmp_path / "postmaster.pid").exists()
    embedded.clear_stale_server(tmp_path)  # and without one there is nothing to do


def test_data_of_another_version_is_refused_and_stays_as_it_is(stopped: Cluster) -> None:
    (data_of(stopped) / "PG_VERSION").write_text("9\n")
    with pytest.raises(errors.Invalid, match=r"was created by Postgres 9, but Postgres \d+ is installed") as refusal:
        prepare(stopped)
    assert "fleet_services upgrade" in refusal.value.hint
    assert embedded.version(data_of(stopped)) == 9


def test_a_conversion_that_was_interrupted_is_finished_by_the_next_start(stopped: Cluster) -> None:
    converted = data_of(stopped).with_name(embedded.CONVERTED)
    data_of(stopped).rename(converted)
    prepare(stopped)
    assert not converted.exists()
    assert embedded.version(data_of(stopped)) == programs.version(programs.postgres())


def test_a_cluster_whose_rules_of_access_were_changed_gets_the_strict_ones_back(stopped: Cluster) -> None:
    (data_of(stopped) / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
    stopped.start()
    postgres = stopped.endpoints().postgres
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=postgres.host, port=postgres.port, user=postgres.user, dbname=postgres.name, password="no")


def test_a_cluster_that_cannot_be_created_names_the_cause_and_leaves_no_data(tmp_path: Path) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "initdb").write_text("#!/bin/sh\necho initdb: error: no more room >&2; echo a hint >&2; exit 1\n")
    (broken / "initdb").chmod(0o755)
    home = Home(tmp_path / "home")
    home.create_folders()
    known = credentials.ensure(home)
    with pytest.raises(
        errors.Unavailable, match=r"initdb could not prepare .*: initdb: error: no more room"
    ) as failure:
        embedded.create_cluster(home.private / embedded.DATA, broken, known)
    assert "a hint" not in str(failure.value)
    assert not (home.private / embedded.DATA).exists()
