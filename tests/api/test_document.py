"""The OpenAPI document is complete, matches every endpoint, and is readable without signing in."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi

from agents.models import Node
from fleet.access.models import Role
from fleet.api.checks import routes
from fleet.api.openapi import pages
from tests.support import api, web
from tests.support.processes.live import run_concurrently

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)
CHECKS = [
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
]
HARMFUL = {"/api/v1/auth/logout"}  # would end the session that the other requests use


@functools.cache
def schema_under_test() -> Any:
    """The document as loaded by schemathesis, with the application under test."""
    schema = schemathesis.openapi.from_dict(api.document())
    schema.app = get_wsgi_application()
    return schema


def test_the_document_is_valid_and_names_every_route() -> None:
    schema = api.document()
    validate_schema(schema)
    assert schema["openapi"].startswith("3.1")
    result = {re.sub(r"{(\w+)}", r"<str:\1>", path.removeprefix("/")) for path in schema["paths"]}
    own = {"api/v1/schema", "api/v1/docs"}
    assert result == {address for address, _ in routes()} - own
    ids = [item["operationId"] for path in schema["paths"].values() for item in path.values()]
    assert len(set(ids)) == len(ids)
    assert all(item["description"] for path in schema["paths"].values() for item in path.values())


def test_each_list_of_choices_has_a_name_of_its_own() -> None:
    schemas = api.document()["components"]["schemas"]
    generated = [name for name in schemas if name.endswith("Enum")]
    assert generated == ["BlankEnum"], "add them to ENUM_NAME_OVERRIDES"


def test_the_document_and_its_page_need_no_sign_in_and_load_nothing_from_other_sites() -> None:
    anonymous = api.anonymous()
    assert anonymous.get("schema?format=json").json()["info"]["title"] == "Fleet"
    assert anonymous.get("schema?format=yaml").content.startswith(b"openapi: 3.1")
    assert anonymous.get("schema", Accept="application/json").json()["info"]["title"] == "Fleet"
    for query in ("format=xml", "format=json&format=yaml", "formt=json"):
        response = anonymous.get(f"schema?{query}")
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, f"/{query.partition('=')[0]}")
    page = anonymous.get("docs")
    assert page.status_code == 200
    assert "http://" not in page.content.decode().replace("http://testserver", "")
    assert "https://" not in page.content.decode()


OPERATIONS = [
    (path, method)
    for path, methods in api.document()["paths"].items()
    for method in methods
    if path not in HARMFUL
]  # fmt: skip


def test_concurrent_requests_build_the_document_once() -> None:
    pages._document.cache_clear()
    pages._cached_rendering.cache_clear()
    found: list[tuple[int, bytes]] = []

    def request() -> None:
        response = api.anonymous().get("schema?format=json")
        found.append((response.status_code, response.content))

    run_concurrently(*[request] * 8)
    assert [status for status, _ in found] == [200] * 8
    assert len({content for _, content in found}) == 1
    assert (pages._document.cache_info().misses, pages._cached_rendering.cache_info().misses) == (1, 1)


def test_an_unknown_parameter_is_refused_by_name_even_if_the_framework_knows_it() -> None:
    boss = api.person("boss", Role.ADMIN)
    for path, methods in api.document()["paths"].items():
        for method in methods:
            for name in ("format", "formt"):
                response = boss.send(method, f"{path.replace('{ref}', 'x')}?{name}=x")
                assert (response.status_code, response["Content-Type"]) == (422, "application/problem+json"), (
                    path,
                    method,
                )
                error = response.json()["errors"][0]
                assert error["pointer"] == f"/{name}", (path, method)
                assert error["detail"].startswith("Unknown parameter. "), (path, method)


@pytest.mark.parametrize("path, method", OPERATIONS)
def test_every_response_to_random_input_is_documented(path: str, method: str) -> None:
    boss = api.person("boss", Role.ADMIN)
    web.ended_mission()
    Node.objects.create(
        name="host", pid=1, start_time=0.0, max_agents=1_000
    )  # otherwise agents cannot be spawned, which is a 503
    operation = schema_under_test()[path][method.upper()]

    @settings(
        max_examples=8, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def send_request(case: Any) -> None:
        response = case.call(base_url="http://testserver", headers={"Authorization": f"Bearer {boss.bearer}"})
        assert response.status_code < 500, (case.as_curl_command(), response.text)
        case.validate_response(response, checks=CHECKS)

    send_request()
