"""Examples for the OpenAPI document, composed out of those of the fields, so that they cannot contradict the shapes.

A field's `initial` is its example. One without is told by what it may be: null, its default, the first of its choices, no, a
moment, nothing in it. A body shows what it must have and what has an example; an answer shows everything. Where that makes
no sense as a whole, a serializer brings its own (`extend_schema_serializer(examples=…)`), and those of texts stand with
the endpoint (`words`). A field of which nothing is known is refused when the document is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import serializers

from fleet import ids
from fleet.api.openapi.headers import OF_REFUSALS

MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
_FORMATS = {"date-time": "2026-01-31T12:00:00Z", "uri": "http://127.0.0.1:8000/api/v1/missions?cursor=cD0yMDQxNQ%3D%3D"}
_INVALID = "priority: A valid integer is required."
_PROBLEMS = (
    (400, "parse_error", "The body is not JSON: Expecting value: line 1 column 1 (char 0)."),
    (400, "bad_request", "The request is malformed. Check its Host header, path and parameters."),
    (
        401,
        "not_authenticated",
        "You are not signed in. Send `Authorization: Bearer …` with a token from POST /api/v1/auth/token, or a machine key.",
    ),
    (
        403,
        "forbidden",
        "This plan runs code, which requires plan.execute. Ask an admin for it, or launch a template.",
    ),
    (403, "permission_denied", "As user:ann (user) you may not do this (audit.list)."),
    (404, "not_found", f"There is no mission {ids.encode(ids.MISSION, ids.EXAMPLE)}."),
    (405, "method_not_allowed", "PUT is not allowed here. Use GET or POST."),
    (406, "not_acceptable", "The response is JSON, which `Accept` excludes. Send `Accept: application/json`."),
    (408, "too_slow", "The body did not arrive within 30 s."),
    (409, "conflict", "The mission has succeeded; it cannot be cancelled."),
    (412, "changed", "It has changed since you read it. Read it again and retry."),
    (413, "too_large", "The body is larger than 11,000,000 bytes."),
    (
        415,
        "unsupported_media_type",
        'Unsupported media type "text/plain" in request. Send JSON, and `Content-Type: application/json`.',
    ),
    (422, "invalid", _INVALID),
    (422, "invalid_plan", "The plan has a fault."),
    (428, "if_match_required", "A change needs the If-Match header. Send the ETag of the last GET."),
    (429, "rate_limited", "Too many requests. Retry in 12 s."),
    (429, "too_many_connections", "Your address has too many connections open."),
    (
        429,
        "locked_out",
        "10 sign-ins under this name failed from your address, so none is taken from there for 15 minutes.",
    ),
    (500, "internal", "Internal error. See the log of the web process."),
    (
        503,
        "unavailable",
        "Postgres does not answer. Try again in a moment. If that does not help, tell an operator.",
    ),
    (503, "busy", "The server is busy. Retry shortly."),
)
_FAULTS: Mapping[str, Any] = {
    "invalid": {"pointer": "/priority", "code": "invalid", "detail": "A valid integer is required."},
    "invalid_plan": {
        "pointer": "/plan/sorties/lint/needs", "code": "plan", "line": 7, "column": 13,
        "detail": "There is no sortie `inventry`. Did you mean `inventory`?",
    },
}  # fmt: skip


class Missing(LookupError):
    """A field has no example, and none follows from its type."""


def of(field: serializers.Field[Any, Any, Any, Any]) -> list[Any]:
    """The example that stands with a field, if one does, as an answer would have it."""
    return [] if field.initial is type(field).initial else [field.to_representation(field.initial)]


def words(media_type: str, example: str, *, status: int = 200) -> dict[tuple[int, str], OpenApiResponse]:
    """An answer that is no JSON, for `@endpoint`."""
    told = OpenApiResponse(OpenApiTypes.STR, examples=[OpenApiExample("as it comes", value=example)])
    return {(status, media_type): told}


def file(example: str) -> dict[tuple[int, str], OpenApiResponse]:
    """An answer that is a file of any kind, for `@endpoint`."""
    told = OpenApiResponse(OpenApiTypes.BINARY, examples=[OpenApiExample("a file of text", value=example)])
    return {(200, "application/octet-stream"): told}


def fill(document: dict[str, Any]) -> None:
    """Give an example to each body, each answer and each problem that has none."""
    shapes = document["components"]["schemas"]
    for operation in (one for methods in document["paths"].values() for one in methods.values()):
        contents = [(operation.get("requestBody"), True)]
        contents += [(answer, False) for status, answer in operation["responses"].items() if status.startswith("2")]
        for content, body in contents:
            for told in (content or {}).get("content", {}).values():
                if "examples" not in told:
                    told["example"] = compose(told["schema"], shapes, body=body)
        for status in ("4XX", "5XX"):
            operation["responses"][status] = {"$ref": f"#/components/responses/{status[0]}XX"}
    document["components"]["examples"] = {code: {"value": problem} for code, problem in _problems()}
    document["components"]["responses"] = {
        "4XX": _refusal("The request is wrong.", below=500),
        "5XX": _refusal("The server failed.", below=600),
    }


def compose(schema: Mapping[str, Any], shapes: Mapping[str, Any], *, body: bool = False, where: str = "") -> Any:
    """An example of what the schema describes; Missing, with the place, where none can be made."""
    match schema:
        case {"examples": [example, *_]}:
            return example
        case {"$ref": name} | {"allOf": [{"$ref": name}]}:
            shape = name.rpartition("/")[2]
            return compose(shapes[shape], shapes, body=body, where=f"{where or shape}")
        case {"default": default}:
            return default
        case {"type": [*_, "null"]} | {"oneOf": [*_, {"type": "null"}]} | {"anyOf": [*_, {"type": "null"}]}:
            return None
        case {"enum": [first, *_]}:
            return first
        case {"type": "boolean"}:
            return False
        case {"format": name} if name in _FORMATS:
            return _FORMATS[name]
        case {"type": "array", "items": items}:
            return [compose(items, shapes, body=body, where=f"{where}[]")]
        case {"type": "object"}:
            must = schema.get("required", ())
            return {
                name: compose(inner, shapes, body=body, where=f"{where}.{name}")
                for name, inner in schema.get("properties", {}).items()
                if not body or name in must or "examples" in inner
            }
        case {"type": "string"} if not body and "minLength" not in schema:
            return ""
        case _ if not body and "type" not in schema:  # any JSON value, and null is one
            return None
    raise Missing(f"{where} has no example: give the field one, as `initial`.")


def _problems() -> Iterator[tuple[str, dict[str, Any]]]:
    for status, code, detail in _PROBLEMS:
        yield code, {
            "type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, "code": code,
            "request_id": ids.encode("req", ids.EXAMPLE), **({"errors": [_FAULTS[code]]} if code in _FAULTS else {}),
        }  # fmt: skip


def _refusal(description: str, *, below: int) -> dict[str, Any]:
    told = {
        code: {"$ref": f"#/components/examples/{code}"}
        for status, code, _ in _PROBLEMS
        if below - 100 <= status < below
    }
    shape = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": description,
        "headers": {
            name: {"schema": {"type": "string", "examples": [example]}, "description": says}
            for name, (example, says) in OF_REFUSALS.items()
        },
        "content": {"application/problem+json": {"schema": shape, "examples": told}},
    }
