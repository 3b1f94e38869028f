"""Examples for the OpenAPI document, composed from the examples of the fields, so that they always match the schemas.

A field's `initial` is its example. Without one, the example follows from the type: null, the default, the first choice,
false, a fixed moment, or an empty value. The example of a request body contains the required fields and those with an
example; the example of a response contains all fields. Where the result makes no sense as a whole, the serializer
declares its own (`extend_schema_serializer(examples=…)`). Text responses have theirs at the endpoint (`text_response`).
A field without any example is an error when the document is generated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import serializers

from fleet import errors, ids
from fleet.api.openapi.headers import ERROR_HEADERS

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
    (403, "permission_denied", "user:ann (role user) is not allowed to do this (audit.list)."),
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
    (422, "invalid_plan", "The plan has an error."),
    (428, "if_match_required", "A change needs the If-Match header. Send the ETag of the last GET."),
    (429, "rate_limited", "Too many requests: the limit is 100 in this window. Try again in 12 s."),
    (429, "too_many_connections", "Your address has too many connections open."),
    (429, "too_many_bodies", "Your address is sending more than 64,000,000 bytes at once."),
    (429, "too_many_responses", "Your address has more than 64,000,000 bytes of responses that it has not read."),
    (
        429,
        "locked_out",
        "10 sign-ins with this name failed from your address. Further attempts are refused for 15 min.",
    ),
    (500, "internal", "Internal error. See the log of the web process."),
    (
        503,
        "unavailable",
        "Postgres does not answer. Try again in a moment. If that does not help, contact the fleet's operators.",
    ),
    (503, "busy", "The server is busy. Retry shortly."),
)
_INPUT_ERRORS: Mapping[str, Any] = {
    "invalid": {"pointer": "/priority", "code": "invalid", "detail": "A valid integer is required."},
    "invalid_plan": {
        "pointer": "/plan/sorties/lint/needs", "code": "plan", "line": 7, "column": 13,
        "detail": "There is no sortie `inventry`. Did you mean `inventory`?",
    },
}  # fmt: skip


class MissingExample(LookupError):
    """A field has no example, and none follows from its type."""


def for_field(field: serializers.Field[Any, Any, Any, Any]) -> list[Any]:
    """The example of a field, as in a response: a list of one item, or an empty list if the field has no example."""
    return [] if field.initial is type(field).initial else [field.to_representation(field.initial)]


def text_response(media_type: str, example: str, *, status: int = 200) -> dict[tuple[int, str], OpenApiResponse]:
    """A text response that is not JSON, for `@endpoint(response=…)`."""
    response = OpenApiResponse(OpenApiTypes.STR, examples=[OpenApiExample("text", value=example)])
    return {(status, media_type): response}


def file_response(example: str) -> dict[tuple[int, str], OpenApiResponse]:
    """A response that is a file of any kind, for `@endpoint(response=…)`."""
    response = OpenApiResponse(OpenApiTypes.BINARY, examples=[OpenApiExample("a text file", value=example)])
    return {(200, "application/octet-stream"): response}


def fill(document: dict[str, Any]) -> None:
    """Add an example to each request body, response and problem that has none."""
    schemas = document["components"]["schemas"]
    for operation in (operation for methods in document["paths"].values() for operation in methods.values()):
        contents = [(operation.get("requestBody"), True)]
        contents += [(response, False) for status, response in operation["responses"].items() if status.startswith("2")]
        for content, body in contents:
            for media in (content or {}).get("content", {}).values():
                if "examples" not in media:
                    media["example"] = compose(media["schema"], schemas, body=body)
        for status in ("4XX", "5XX"):
            operation["responses"][status] = {"$ref": f"#/components/responses/{status[0]}XX"}
    document["components"]["examples"] = {code: {"value": problem} for code, problem in _problems()}
    document["components"]["responses"] = {
        "4XX": _error_response("Client error.", below=500),
        "5XX": _error_response("Server error.", below=600),
    }


def compose(schema: Mapping[str, Any], schemas: Mapping[str, Any], *, body: bool = False, where: str = "") -> Any:
    """An example for a schema. Raises MissingExample, with the place, if none can be composed."""
    match schema:
        case {"examples": [example, *_]}:
            return example
        case {"$ref": name} | {"allOf": [{"$ref": name}]}:
            component = name.rpartition("/")[2]
            return compose(schemas[component], schemas, body=body, where=where or component)
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
            return [compose(items, schemas, body=body, where=f"{where}[]")]
        case {"type": "object"}:
            required = schema.get("required", ())
            return {
                name: compose(inner, schemas, body=body, where=f"{where}.{name}")
                for name, inner in schema.get("properties", {}).items()
                if not body or name in required or "examples" in inner
            }
        case {"type": "string"} if not body and "minLength" not in schema:
            return ""
        case _ if not body and "type" not in schema:  # any JSON value is valid, including null
            return None
    raise MissingExample(f"{where} has no example. Set the field's `initial`.")


def _problems() -> Iterator[tuple[str, dict[str, Any]]]:
    for status, code, detail in _PROBLEMS:
        problem = errors.problem(status=status, code=code, detail=detail, request=ids.encode("req", ids.EXAMPLE))
        yield code, {**problem, **({"errors": [_INPUT_ERRORS[code]]} if code in _INPUT_ERRORS else {})}


def _error_response(description: str, *, below: int) -> dict[str, Any]:
    examples = {
        code: {"$ref": f"#/components/examples/{code}"}
        for status, code, _ in _PROBLEMS
        if below - 100 <= status < below
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": description,
        "headers": {
            name: {"schema": {"type": "string", "examples": [example]}, "description": description}
            for name, (example, description) in ERROR_HEADERS.items()
        },
        "content": {"application/problem+json": {"schema": schema, "examples": examples}},
    }
