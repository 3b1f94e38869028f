"""One endpoint of the API: what it does, who may (by its action in fleet.access.rules), what it takes and what it answers.

    class Missions(ApiView):
        @endpoint("missions.create", body=Launch, answer=shapes.Mission, status=201)
        def post(self, request: Request, *, given: Given) -> Response: ...

The declaration is all that there is: the check of the caller's rights, the validation, the OpenAPI document and the tests'
role matrix are made from it. A method without one answers nobody.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet.api import idempotency
from fleet.api.http import conditional
from fleet.api.openapi import headers
from fleet.api.serializers import Strict

Given: TypeAlias = Mapping[str, Any]
Shape: TypeAlias = Any  # what drf-spectacular takes: a serializer, or its class, or OpenApiTypes

METHODS = ("get", "post", "patch", "delete")


class Fault(serializers.Serializer[Any]):
    """One thing that is not valid."""

    pointer = serializers.CharField(
        allow_blank=True,
        help_text="a JSON pointer (RFC 6901) into the body, or / and the name of a query parameter",
    )
    code = serializers.CharField()
    detail = serializers.CharField()
    line = serializers.IntegerField(required=False, help_text="in a plan that was sent as text")
    column = serializers.IntegerField(required=False)


class Problem(serializers.Serializer[Any]):
    """RFC 9457, with `code`, `request_id` and, for what is not valid, `errors`."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="what happened and what to do next, for people")
    code = serializers.CharField(help_text="the kind of problem, for programs")
    request_id = serializers.CharField(help_text="identifies this request in the logs and the audit trail")
    errors = Fault(many=True, required=False)  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What `@endpoint` declared of a method."""

    action: str
    body: type[Strict] | None
    query: type[Strict] | None
    status: int
    guarded: bool


def endpoint(
    action: str,
    *,
    answer: Shape,
    status: int = 200,
    body: type[Strict] | None = None,
    query: type[Strict] | None = None,
    guarded: bool = False,
    secret: bool = False,
    located: bool | None = None,
    told: Sequence[OpenApiParameter] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Response]]:
    """Declare a method of an ApiView. It is given `given` (the valid body) and `asked` (the valid query) where it takes
    them, and returns data, or a Response. `guarded`: a change needs If-Match (428 without, 412 where it does not fit).
    `secret`: the answer holds a secret, so it is not kept for an Idempotency-Key. `located`: it has a Location, as a 201
    and a 202 have unless told. `told`: other headers that requests or answers have, for the document (fleet.api.headers)."""

    def declared(method: Callable[..., Any]) -> Callable[..., Response]:
        declaration = Endpoint(action=action, body=body, query=query, status=status, guarded=guarded)

        @functools.wraps(method)
        def call(view: Any, request: Request, **path: str) -> Response:
            asks = query or Strict
            asked = valid(asks, query_of(asks, request)) if request.query_params else _unasked(asks)
            more: dict[str, Any] = {"asked": asked} if query else {}
            if body:
                more["given"] = valid(body, request.data)
            elif request.method == "POST" or request.data:
                valid(Strict, request.data or {})

            def act() -> Any:
                found = method(view, request, **path, **more)
                return found if isinstance(found, HttpResponseBase) else Response(found, status=status)

            if request.method == "POST" and not secret:
                return idempotency.once(request=request, asker=view.asker(request), act=act)
            return conditional.answered(request=request, response=act())

        call.endpoint = declaration  # type: ignore[attr-defined]
        verb = method.__name__
        parameters: list[Any] = [*([query] if query else [])]
        parameters += [headers.IDEMPOTENCY_KEY] if verb == "post" and not secret else []
        parameters += [headers.IF_MATCH, headers.ETAG] if guarded else []
        parameters += [headers.LOCATION] if (status in {201, 202} if located is None else located) else []
        parameters += told
        unchanged = {304: OpenApiResponse(description="It has not changed.")} if headers.IF_NONE_MATCH in told else {}
        problem = OpenApiResponse(Problem, description="The problem, as application/problem+json")
        return extend_schema(
            summary=_summary(method),
            request=body,
            parameters=parameters,
            responses={
                **(answer if isinstance(answer, dict) else {status: answer}),
                **unchanged,
                ("4XX", "application/problem+json"): problem,
                ("5XX", "application/problem+json"): problem,
            },
        )(call)

    return declared


def _summary(method: Callable[..., Any]) -> str:
    """The first sentence of its docstring."""
    said = " ".join((method.__doc__ or "").split())
    return said.partition(". ")[0].partition("; ")[0].rstrip(".").replace("`", "")  # it is no Markdown there


def valid(serializer: type[Strict], data: Any) -> Given:
    """The data as the serializer reads it; ValidationError with all its faults."""
    read = serializer(data=data)
    read.is_valid(raise_exception=True)
    found: Given = read.validated_data
    return found


@functools.cache
def _unasked(serializer: type[Strict]) -> Given:
    """What an empty query is read as: always the same, and what most requests have."""
    return MappingProxyType(dict(valid(serializer, {})))


def query_of(serializer: type[Strict], request: Request) -> dict[str, Any]:
    """Those of a query: as lists for fields that take several, else as texts; ValidationError for others that are
    repeated."""
    takes_several = _fields(serializer)
    given = dict(request.query_params.lists())
    repeated = [name for name, values in given.items() if len(values) > 1 and takes_several.get(name) is False]
    if repeated:
        raise serializers.ValidationError({name: ["Send it only once."] for name in repeated}, code="repeated")
    return {name: values if takes_several.get(name) else values[0] for name, values in given.items()}


@functools.cache
def _fields(serializer: type[Strict]) -> Mapping[str, bool]:
    """The names of the fields, and whether each takes several values."""
    listed = serializers.MultipleChoiceField | serializers.ListField
    return {name: isinstance(field, listed) for name, field in serializer().fields.items()}
