"""A session cookie that no session can have is ignored."""

from __future__ import annotations

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/admin/", "/flower/", "/api/v1/me", "/api/v1/events/stream"])
def test_a_cookie_with_a_nul_is_no_session(path: str) -> None:
    response = Client(HTTP_COOKIE='sessionid="\\000abcdefgh"').get(path)
    assert response.status_code in {302, 401}
