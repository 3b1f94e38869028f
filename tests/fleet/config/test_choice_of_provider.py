"""FLEET_SERVICES chooses the provider of Postgres and Valkey. `auto` keeps the one that has data."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from fleet import errors
from fleet.config import credentials, datastores, programs
from fleet.config.env import Environment
from fleet.config.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    new_home = Home(tmp_path / "home")
    new_home.create_folders()
    return new_home


def chosen_provider(home: Home, services: str = "") -> str:
    environment = Environment({"FLEET_SERVICES": services})
    return datastores.resolve(environment, home, credentials.ensure(home)).provider


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """Make these the only programs on PATH."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_the_embedded_servers_are_the_default_even_beside_an_engine(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "bin", "podman", "docker")
    assert chosen_provider(home) == chosen_provider(home, "auto") == "embedded"


@pytest.mark.parametrize("name", ["embedded", "podman", "docker"])
def test_the_setting_selects_the_provider(home: Home, name: str) -> None:
    assert chosen_provider(home, name) == name


def test_an_unknown_provider_stops_the_start(home: Home) -> None:
    with pytest.raises(ImproperlyConfigured, match="FLEET_SERVICES='kubernetes' is not one of: auto, embedded"):
        chosen_provider(home, "kubernetes")


def test_auto_keeps_the_provider_that_has_the_data(home: Home) -> None:
    datastores.engine_record(home).write_text("docker\n")
    assert chosen_provider(home) == "docker"
    assert chosen_provider(home, "podman") == "podman"
    (home.private / "postgres").mkdir()
    assert chosen_provider(home) == "embedded"


@pytest.mark.parametrize(("names", "engine"), [(("docker", "podman"), "podman"), (("docker",), "docker"), ((), None)])
def test_the_engine_of_a_host_is_podman_or_else_docker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], engine: str | None
) -> None:
    install(monkeypatch, tmp_path / "bin", *names)
    assert programs.engine() == engine


def test_the_urls_of_external_servers_take_precedence(home: Home) -> None:
    urls = {"DATABASE_URL": "postgresql://a:b@db/c", "REDIS_URL": "redis://cache"}
    environment = Environment({**urls, "FLEET_SERVICES": "podman"})
    assert datastores.resolve(environment, home, credentials.ensure(home)).provider == "external"


def test_the_embedded_servers_are_found_where_make_install_was_run() -> None:
    assert programs.embedded_available()
    assert (programs.postgres() / "initdb").is_file()
    assert programs.valkey().is_file()
    assert errors.Unavailable.exit_code
