"""The output of agents gets from their files into rows: complete, in order, bounded, and without secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import psycopg
import pytest
from django.conf import settings
from django.db import Error, connection

from agents.models import Agent, AgentType, LogPiece
from agents.node import log_shipping
from agents.node.log_shipping import Shipper

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def new_agent() -> Agent:
    return Agent.objects.create(type=AgentType.objects.get(name="backend"))


def append(path: Path, text: str | bytes) -> None:
    """Append to the file, as an agent does."""
    with open(path, "ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def stored_log(agent: Agent) -> str:
    return "".join(LogPiece.objects.filter(agent=agent).values_list("text", flat=True))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent-backend-1.log"


def test_lines_are_shipped_once_they_are_complete(path: Path) -> None:
    agent, shipper = new_agent(), Shipper()
    shipper.begin(agent=agent.id, path=path)
    shipper.ship()  # there is no file yet
    append(path, "first\nsec")
    shipper.ship()
    assert stored_log(agent) == "first\n"
    append(path, "ond, ü".encode()[:-1])
    shipper.ship()
    assert stored_log(agent) == "first\n"
    append(path, "ü".encode()[-1:] + b"\nthird")
    shipper.ship()
    shipper.ship()
    assert stored_log(agent) == "first\nsecond, ü\n"
    shipper.finish(agent=agent.id)
    shipper.ship()
    assert stored_log(agent) == "first\nsecond, ü\nthird"


def test_each_agent_has_its_own_part_of_the_file_of_its_place(path: Path) -> None:
    first, second, shipper = new_agent(), new_agent(), Shipper()
    append(path, "of an earlier life of the node\n")
    shipper.begin(agent=first.id, path=path)
    append(path, "first\nits last words")
    shipper.finish(agent=first.id)
    shipper.begin(agent=second.id, path=path)  # before the output of the first agent was shipped
    append(path, "second\n")
    shipper.ship()
    assert (stored_log(first), stored_log(second)) == ("first\nits last words", "second\n")


def test_output_that_postgres_rejects_is_shipped_later(path: Path) -> None:
    agent, shipper = new_agent(), Shipper()
    shipper.begin(agent=agent.id, path=path)
    append(path, "said while Postgres was away\n")
    assert isinstance(connection.connection, psycopg.Connection)
    with psycopg.connect(**_address(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
    with pytest.raises(Error):
        shipper.ship()
    connection.close()
    append(path, "and later\n")
    shipper.finish(agent=agent.id)
    shipper.ship()
    assert stored_log(agent) == "said while Postgres was away\nand later\n"


def _address() -> dict[str, Any]:
    endpoints = settings.FLEET_ENDPOINTS.postgres
    name = connection.settings_dict["NAME"]
    return {
        "host": endpoints.host,
        "port": endpoints.port,
        "user": endpoints.user,
        "password": endpoints.password,
        "dbname": name,
    }


def test_only_the_end_is_kept(path: Path, settings: Any) -> None:
    settings.FLEET_AGENT_LOG_BYTES = 200_000
    agent, other, shipper = new_agent(), new_agent(), Shipper()
    shipper.begin(agent=agent.id, path=path)
    shipper.begin(agent=other.id, path=path.with_name("agent-backend-2.log"))
    append(path.with_name("agent-backend-2.log"), "beside it\n")
    for number in range(40):
        append(path, f"{number:05}\n" * 2_000)
        shipper.ship()
    log = stored_log(agent)
    assert 188_000 <= len(log) <= 200_000
    assert log.endswith("00039\n")
    assert log.startswith("000")
    assert stored_log(other) == "beside it\n"
    append(path, "x" * 99 + "\n")
    append(path, ("y" * 99 + "\n") * 5_000)  # more than is kept, in one go
    shipper.ship()
    log = stored_log(agent)
    assert len(log) <= 200_000
    assert "bytes left out …\ny" in log
    assert "x" not in log


def test_an_endless_line_is_shipped_without_waiting_for_its_end(path: Path) -> None:
    agent, shipper = new_agent(), Shipper()
    shipper.begin(agent=agent.id, path=path)
    append(path, "word " * 20_000 + "half")
    shipper.ship()
    assert stored_log(agent) == "word " * 20_000
    assert max(map(len, LogPiece.objects.values_list("text", flat=True))) <= log_shipping.PIECE


def test_a_large_file_is_rotated_and_two_old_ones_are_kept(path: Path) -> None:
    agent, shipper = new_agent(), Shipper()
    shipper.begin(agent=agent.id, path=path)
    writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)  # held open, as an agent does
    for number in range(4):
        os.write(writer, (f"{number}" * 99 + "\n").encode() * (log_shipping.FILE_BYTES // 100 + 1))
        shipper.ship()
        assert path.stat().st_size == 0
        os.write(writer, f"after {number}\n".encode())
        shipper.ship()
        assert stored_log(agent).endswith(f"after {number}\n")
    os.close(writer)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.1", f"{path.name}.2"]
    heads = [Path(f"{path}{end}").read_bytes()[:20] for end in (".1", ".2")]
    assert heads == [b"after 2\n333333333333", b"after 1\n222222222222"]
    assert {Path(f"{path}{end}").stat().st_mode & 0o777 for end in ("", ".1", ".2")} == {0o600}


def test_a_file_that_somebody_emptied_is_read_from_its_beginning(path: Path) -> None:
    agent, shipper = new_agent(), Shipper()
    shipper.begin(agent=agent.id, path=path)
    append(path, "before, at some length\n")
    shipper.ship()
    os.truncate(path, 0)
    append(path, "after\n")
    shipper.ship()
    assert stored_log(agent) == "before, at some length\nafter\n"


def test_output_after_the_death_of_the_node_is_shipped_by_the_next_one(path: Path) -> None:
    agent, unknown, shipper = new_agent(), new_agent(), Shipper()
    shipper.begin(agent=agent.id, path=path)
    append(path, f"again\nand {settings.SECRET_KEY}\nagain\n")
    shipper.ship()
    append(path, f"its {settings.SECRET_KEY}\nlast words")
    for _ in range(2):
        later = Shipper()
        later.resume(agent=agent.id, path=path)
        later.resume(agent=unknown.id, path=path)
        later.resume(agent=agent.id, path=path.with_name("agent-gone-1.log"))
        assert stored_log(agent) == "again\nand [redacted]\nagain\nits [redacted]\nlast words"
    assert stored_log(unknown) == ""


def test_no_secret_gets_into_a_row(path: Path) -> None:
    agent, shipper = new_agent(), Shipper()
    shipper.begin(agent=agent.id, path=path)
    credentials, endpoints = settings.FLEET_CREDENTIALS, settings.FLEET_ENDPOINTS
    redis = unquote(urlsplit(endpoints.redis_url).password or "")
    secrets = {
        credentials.postgres_password,
        credentials.flower_password,
        credentials.metrics_token,
        settings.SECRET_KEY,
        redis,
    }
    for secret in secrets:
        append(path, f"it is {secret}, quoted {quote(secret, safe='')}, in {secret!r} and twice {secret}{secret}\n")
    append(
        path, f"transport: {endpoints.redis_url}\nconnecting to postgresql://someone:of@ther%20pass@db.example:5432/x\n"
    )
    append(path, "redis://:alone@cache:6379/0 and https://docs.example/a@b:c are\n\x00 ends\n")
    append(path, credentials.admin_password[:10])
    shipper.ship()
    append(path, credentials.admin_password[10:] + "\n")
    shipper.ship()
    text = stored_log(agent)
    assert not [
        secret for secret in secrets | {credentials.admin_password} if secret in text or quote(secret, safe="") in text
    ]
    assert "postgresql://someone:[redacted]@db.example:5432/x\n" in text
    assert "redis://:[redacted]@cache:6379/0 and https://docs.example/a@b:c are\n� ends\n" in text
    assert text.count("[redacted]") >= 4 * len(secrets) + 3
