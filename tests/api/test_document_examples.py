"""The examples of the OpenAPI document exist wherever they help, and all of them are correct."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client as Browser
from django.utils import timezone
from jsonschema import Draft202012Validator
from rest_framework import serializers

from agents.models import AgentType
from fleet.access.models import Role
from fleet.api.checks import routes
from fleet.api.endpoints import validate
from fleet.api.openapi import examples
from missions.models import Attempt, Output, Sortie, Template
from tests.support import api, artifacts, fleet
from tests.support.paths import CHECKOUT

DOCUMENT = api.document()
VIEWS = {"/" + re.sub(r"<str:(\w+)>", r"{\1}", address): view for address, view in routes()}
OPERATIONS = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]


def examples_of(content: dict[str, Any]) -> list[Any]:
    """The examples of a media type."""
    return [item["value"] for item in content["examples"].values()] if "examples" in content else [content["example"]]


def problems(example: Any, schema: dict[str, Any]) -> list[str]:
    resolvable = {**schema, "components": DOCUMENT["components"]}
    validator = Draft202012Validator(resolvable, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [problem.message for problem in validator.iter_errors(example)]


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """The content of each request body and each response, with its place."""
    for method, path, operation in OPERATIONS:
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{method} {path} > {media_type}", content
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                yield f"{method} {path} < {status} {media_type}", content


def test_each_body_and_response_has_an_example_that_fits_its_schema() -> None:
    result = dict(contents())
    assert len(result) > 70
    assert [
        (place, problems(item, content["schema"]))
        for place, content in result.items()
        for item in examples_of(content)
        if problems(item, content["schema"])
    ] == []


def test_each_example_body_is_accepted_by_its_endpoint() -> None:
    accepted = 0
    for method, path, operation in OPERATIONS:
        view = VIEWS[path]
        declaration = view.declaration(method) if view else None
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert declaration is not None
            assert declaration.body is not None
            for item in examples_of(content):
                validate(declaration.body, item)
                accepted += 1
    assert accepted > 20


@pytest.mark.django_db
def test_each_example_launch_works_and_its_plan_is_valid(settings: Any) -> None:
    settings.FLEET_FOLDERS = ["/srv/projects"]
    ann = api.person("ann", can_execute=True)
    launch = DOCUMENT["paths"]["/api/v1/missions"]["post"]["requestBody"]["content"]["application/json"]
    check = DOCUMENT["paths"]["/api/v1/plans/check"]["post"]["requestBody"]["content"]["application/json"]
    Template.objects.create(name="audit", text=str(check["example"]["plan"]))
    AgentType.objects.filter(name="backend").update(prompt_argv=["true"])
    assert [ann.post("missions", item).status_code for item in examples_of(launch)] == [201, 201, 201]
    assert ann.post("plans/check", check["example"]).status_code == 200


def test_the_introduction_names_only_existing_routes() -> None:
    result = DOCUMENT["info"]["description"].replace("\n", " ").replace("{id}", "{ref}")
    operations = re.findall(r"(GET|POST|PATCH|DELETE) (/api/v1/[\w/{}|-]+)", result)
    assert len(operations) > 10
    for method, path in operations:
        before, _, last = path.rpartition("/")
        for item in last.split("|"):
            assert method.lower() in DOCUMENT["paths"][f"{before}/{item}"], (method, path)


def test_each_parameter_with_a_special_format_has_an_example() -> None:
    plain = {"integer", "boolean", "array"}
    for _, path, operation in OPERATIONS:
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            if schema.get("type") in plain or "$ref" in schema or "enum" in schema:
                continue
            assert schema.get("examples"), (path, parameter["name"])
            assert problems(schema["examples"][0], schema) == []


def test_each_documented_problem_has_exactly_one_example() -> None:
    manual = (CHECKOUT / "docs/api.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| (`.*`) \|", manual, re.MULTILINE)
    documented = {(int(status), code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    result = DOCUMENT["components"]["examples"]
    assert {(item["value"]["status"], name) for name, item in result.items()} == documented
    for item in result.values():
        assert problems(item["value"], {"$ref": "#/components/schemas/Problem"}) == []
    for _, path, operation in OPERATIONS:
        assert operation["responses"]["4XX"] == {"$ref": "#/components/responses/4XX"}, path
    references = [
        example["$ref"].rpartition("/")[2]
        for response in DOCUMENT["components"]["responses"].values()
        for example in response["content"]["application/problem+json"]["examples"].values()
    ]
    assert sorted(references) == sorted(result)


@pytest.mark.django_db
def test_real_problems_look_like_the_examples() -> None:
    ann, eve = api.person("ann", can_execute=True), api.person("eve")
    boss = api.person("boss", Role.ADMIN)
    mission = ann.post("missions", {"plan": api.PLAN, "start": False}).json()["id"]
    (sortie,) = ann.get(f"missions/{mission}/sorties").json()["results"]
    responses = {
        "parse_error": ann.post("missions", b"{"),
        "bad_request": ann.get("missions", Host="elsewhere.example"),
        "not_acceptable": ann.get("missions", Accept="text/html"),
        "not_authenticated": api.anonymous().get("missions"),
        "forbidden": eve.post("missions", {"plan": api.PLAN}),
        "permission_denied": eve.get("audit"),
        "not_found": eve.get(f"missions/{mission}"),
        "method_not_allowed": ann.delete("missions"),
        "conflict": boss.post(f"sorties/{sortie['id']}/retry"),
        "changed": ann.patch(f"missions/{mission}", {"priority": 1}, If_Match='"other"'),
        "unsupported_media_type": Browser().post("/api/v1/auth/token", "hello", content_type="text/plain"),
        "invalid": ann.patch(f"missions/{mission}", {"priority": "high"}, If_Match="*"),
        "invalid_plan": ann.post("plans/check", {"plan": {"mission": "m", "sorties": {}}}),
        "if_match_required": ann.patch(f"missions/{mission}", {"priority": 1}),
    }
    for code, response in responses.items():
        result = DOCUMENT["components"]["examples"][code]["value"]
        problem = response.json()
        assert (problem["status"], problem["code"], problem["title"]) == (result["status"], code, result["title"])
        assert problem.keys() == result.keys()
        assert problems(problem, {"$ref": "#/components/schemas/Problem"}) == []


def body_of(response: Any) -> bytes:
    async def read_stream() -> bytes:
        return b"".join([piece async for piece in response.streaming_content])

    return async_to_sync(read_stream)() if response.streaming else bytes(response.content)


@pytest.mark.django_db
def test_real_downloads_have_the_documented_headers() -> None:
    boss = api.person("boss", Role.ADMIN)
    sortie = Sortie.objects.get(mission=fleet.launch({"one": {}}))
    Attempt.objects.create(sortie=sortie, number=0, state="succeeded")
    Output.objects.create(
        sortie=sortie, attempt=0, at=timezone.now(), stream="stdout", text="1 of 10 files\n2 of 10 files\n"
    )
    file = artifacts.add(sortie, path="out/report.md", content=b"# Report\n\nNothing to fix.\n")
    log, content = f"sorties/{sortie.ref}/logs.txt", f"artifacts/{file.ref}/content"
    tag = boss.get(content)["ETag"]
    for response, path in (
        (boss.get(log), "sorties/{ref}/logs.txt"),
        (boss.get(log, Range="bytes=3-8"), "sorties/{ref}/logs.txt"),
        (boss.get(log, Range="bytes=28-"), "sorties/{ref}/logs.txt"),
        (boss.get(content), "artifacts/{ref}/content"),
        (boss.get(content, If_None_Match=tag), "artifacts/{ref}/content"),
    ):
        result = DOCUMENT["paths"][f"/api/v1/{path}"]["get"]["responses"][str(response.status_code)]
        for name, header in result.get("headers", {}).items():
            example = header["schema"]["examples"][0]
            assert response[name] == example or name == "ETag" or response.status_code == 416, (path, name)
        for media_type, value in result.get("content", {}).items():
            assert response["Content-Type"].partition(";")[0] == media_type
            assert examples_of(value) == [body_of(response).decode()]
    assert boss.get(log, Range="bytes=28-")["Content-Range"] == "bytes */28"
    assert boss.get(f"{log}?follow=true")["Accept-Ranges"] == "none"
    values = {
        path: {parameter["name"] for parameter in methods["get"]["parameters"] if parameter["in"] == "header"}
        for path, methods in DOCUMENT["paths"].items()
        if "get" in methods and methods["get"].get("parameters")
    }
    assert "Range" in values["/api/v1/sorties/{ref}/logs.txt"]
    assert "If-None-Match" in values["/api/v1/artifacts/{ref}/content"]


def test_a_field_without_an_example_fails_the_build_of_the_document() -> None:
    class Shape(serializers.Serializer[Any]):
        known = serializers.IntegerField(initial=7)
        unknown = serializers.IntegerField()

    assert [examples.for_field(field) for field in Shape().fields.values()] == [[7], []]
    shapes = {"Shape": {"type": "object", "properties": {"unknown": {"type": "integer"}}}}
    with pytest.raises(examples.MissingExample, match=r"Shape\.unknown"):
        examples.compose({"$ref": "#/components/schemas/Shape"}, shapes)
