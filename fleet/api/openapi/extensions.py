"""Extensions of drf-spectacular: operation names, ids, examples and authentication schemes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework.serializers import Field

from fleet import ids
from fleet.api.openapi import examples
from fleet.api.serializers import Id

INTRODUCTION = Path(__file__).with_name("introduction.md")
KINDS = {
    "missions": ids.MISSION,
    "sorties": ids.SORTIE,
    "agents": ids.AGENT,
    "artifacts": ids.ARTIFACT,
    "keys": ids.KEY,
    "checkpoints": ids.CHECKPOINT,
}


class EndpointSchema(AutoSchema):
    """Names operations by method and path (get_missions_id_sorties), and tags them with the first word of the path."""

    def get_operation_id(self) -> str:
        words = ["id" if word == "{ref}" else word.strip("{}") for word in self._words()]
        return "_".join([self.method.lower(), *words]).replace("-", "_").replace(".", "_")

    def get_tags(self) -> list[str]:
        return self._words()[:1]

    def _get_serializer_field_meta(self, field: Any, direction: Any) -> dict[str, Any]:
        meta: dict[str, Any] = super()._get_serializer_field_meta(field, direction)  # type: ignore[no-untyped-call]
        if isinstance(field, Id):
            meta["pattern"] = field.pattern
        if isinstance(field, Field) and (example := examples.for_field(field)):
            meta["examples"] = example
        return meta

    def _resolve_path_parameters(self, variables: Any) -> list[dict[str, Any]]:
        """Describe `ref`, an id of the kind that the path starts with or the name of an agent type; and `mission`."""
        parameters: list[dict[str, Any]] = super()._resolve_path_parameters(variables)  # type: ignore[no-untyped-call]
        for parameter in parameters:
            if parameter["name"] in ("ref", "mission"):
                kind = ids.MISSION if parameter["name"] == "mission" else KINDS.get(self._words()[0])
                parameter["description"] = f"An id: {kind}_…" if kind else "A name."
                example = ids.encode(kind, ids.EXAMPLE) if kind else "testing"
                parameter["schema"] = {"type": "string", "examples": [example]}
        return parameters

    def _words(self) -> list[str]:
        return [word for word in self.path.removeprefix("/api/v1").split("/") if word]


def postprocess(result: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Complete the generated document: no additional properties in request bodies, examples, and the introduction."""
    for name, schema in result["components"]["schemas"].items():
        if name.endswith("Request") and schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
        for field in schema.get("properties", {}).values():
            if {} in field.get("oneOf", []):  # any JSON value, or null: null would match both, which oneOf forbids
                del field["oneOf"]
    examples.fill(result)
    result["info"]["description"] = INTRODUCTION.read_text()
    return result


class BearerScheme(OpenApiAuthenticationExtension):
    """The security scheme of bearer tokens."""

    target_class = "fleet.access.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An access token (POST /api/v1/auth/token), a machine key (flk_…), or a lease token (srt_….1.…).",
        }


class SessionScheme(OpenApiAuthenticationExtension):
    """The security scheme of a browser that is signed in to the admin."""

    target_class = "fleet.access.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


class TicketScheme(OpenApiAuthenticationExtension):
    """The security scheme of tickets, each of which opens one stream once."""

    target_class = "fleet.live.tickets.TicketAuthentication"
    name = "ticket"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "query", "name": "ticket", "description": "A ticket from POST /api/v1/tickets."}
