"""GET sorties/{id}/logs.txt?follow=true sends output as it is written, including that of further attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db.models.functions import Now

from missions.api.sorties import FOLLOW_S
from missions.models import Attempt, Output, Sortie
from tests.support import api
from tests.support.processes import live

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def start_attempt(sortie: Sortie, number: int) -> None:
    Attempt.objects.filter(sortie=sortie).update(state="failed")
    Attempt.objects.create(sortie=sortie, number=number, state="running")
    Sortie.objects.filter(id=sortie.id).update(attempt=number)


def write(sortie: Sortie, number: int, text: str) -> None:
    Output.objects.create(sortie=sortie, attempt=number, stream="stdout", text=text)


def succeed(sortie: Sortie) -> None:
    Attempt.objects.filter(sortie=sortie, state="running").update(state="succeeded")
    Sortie.objects.filter(id=sortie.id).update(state="succeeded", finished_at=Now())


@pytest.fixture
def client() -> api.Client:
    return api.person("ann")


@pytest.fixture
def sortie(client: api.Client) -> Sortie:
    return live.mission_of(client.user).sorties.get()


def follow(client: api.Client, sortie: Sortie, query: str, *, after_first_text: Callable[[], None]) -> list[str]:
    """The texts of a followed log. `after_first_text` is called when the first text has arrived."""

    async def texts() -> list[str]:
        response = await sync_to_async(client.get)(f"sorties/{sortie.ref}/logs.txt?follow=true{query}")
        assert response.status_code == 200
        content: AsyncIterator[bytes] = aiter(response.streaming_content)
        received = [(await anext(content)).decode()]
        await sync_to_async(after_first_text)()
        return received + [text.decode() async for text in content]

    return async_to_sync(texts)()


def test_a_followed_log_continues_with_the_retries_until_the_sortie_has_ended(
    client: api.Client, sortie: Sortie
) -> None:
    start_attempt(sortie, 1)
    write(sortie, 1, "first\n")

    def retry() -> None:
        start_attempt(sortie, 2)
        write(sortie, 2, "second\n")
        start_attempt(sortie, 3)
        write(sortie, 3, "third\n")
        succeed(sortie)

    assert follow(client, sortie, "", after_first_text=retry) == ["first\n", "second\n", "third\n"]


def test_it_begins_with_the_last_attempt(client: api.Client, sortie: Sortie) -> None:
    start_attempt(sortie, 1)
    write(sortie, 1, "first\n")
    start_attempt(sortie, 2)
    write(sortie, 2, "second\n")
    assert follow(client, sortie, "", after_first_text=lambda: succeed(sortie)) == ["second\n"]


def test_a_followed_attempt_ends_when_the_next_one_begins(client: api.Client, sortie: Sortie) -> None:
    start_attempt(sortie, 1)
    write(sortie, 1, "first\n")

    def retry() -> None:
        write(sortie, 1, "more\n")
        start_attempt(sortie, 2)
        write(sortie, 2, "second\n")

    assert follow(client, sortie, "&attempt=1", after_first_text=retry) == ["first\n", "more\n"]


def test_the_log_of_a_sortie_that_has_ended_ends_at_once(client: api.Client, sortie: Sortie) -> None:
    start_attempt(sortie, 1)
    write(sortie, 1, "first\n")
    succeed(sortie)
    assert follow(client, sortie, "", after_first_text=lambda: None) == ["first\n"]


def test_a_client_that_reads_slowly_follows_no_longer_than_others(client: api.Client, sortie: Sortie) -> None:
    """Otherwise a user who has been signed out could go on reading, a byte now and then."""
    start_attempt(sortie, 1)
    write(sortie, 1, "first\n")

    async def texts() -> list[bytes]:
        loop = asyncio.get_running_loop()
        response = await sync_to_async(client.get)(f"sorties/{sortie.ref}/logs.txt?follow=true")
        content: AsyncIterator[bytes] = aiter(response.streaming_content)
        received = [await anext(content)]
        await sync_to_async(write)(sortie, 1, "written after the sign-out\n")
        now = loop.time
        loop.time = lambda: now() + FOLLOW_S  # type: ignore[method-assign]
        return received + [text async for text in content]

    assert async_to_sync(texts)() == [b"first\n"]
