"""`@endpoint` declares a method of the API: its action (fleet.access.rules), its body, its query and its response.

    class Missions(ApiView):
        @endpoint("missions.create", body=Launch, response=responses.MissionResponse, status=201)
        def post(self, request: Request, *, body: Validated) -> Response: ...

The permission check, the validation, the OpenAPI document and the role matrix of the tests all follow from the
declaration. A method without one is denied to everyone.
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

Validated: TypeAlias = Mapping[str, Any]
Shape: TypeAlias = Any  # what drf-spectacular takes: a serializer, or its class, or OpenApiTypes

METHODS = ("get", "post", "patch", "delete")


class InputError(serializers.Serializer[Any]):
    """One error of the input."""

    pointer = serializers.CharField(
        allow_blank=True,
        help_text="a JSON pointer (RFC 6901) into the body, or / and the name of a query parameter",
    )
    code = serializers.CharField()
    detail = serializers.CharField()
    line = serializers.IntegerField(required=False, help_text="in a plan that was sent as text")
    column = serializers.IntegerField(required=False)


class Problem(serializers.Serializer[Any]):
    """A problem (RFC 9457), with `code`, `request_id` and, for invalid input, `errors`."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="what happened and what to do next, for people")
    code = serializers.CharField(help_text="the kind of problem, for programs")
    request_id = serializers.CharField(help_text="identifies this request in the logs and the audit trail")
    errors = InputError(many=True, required=False)  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What the checks read of a method's declaration."""

    action: str
    body: type[Strict] | None


def endpoint(
    action: str,
    *,
    response: Shape,
    status: int = 200,
    body: type[Strict] | None = None,
    query: type[Strict] | None = None,
    if_match: bool = False,
    secret: bool = False,
    commits: bool = False,
    location: bool | None = None,
    extra_headers: Sequence[OpenApiParameter] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Response]]:
    """Declare a method of an ApiView. The method returns data or a Response.

    `body`, `query`: serializers; the method gets the validated data as keyword arguments of the same names.
    `if_match`: the method checks If-Match (428 without it, 412 if it does not match).
    `secret`: the response contains a secret, so it is not stored for an Idempotency-Key.
    `commits`: the method commits transactions of its own, so an Idempotency-Key does not wrap it in one.
    `location`: the response has a Location header. By default a 201 and a 202 have one.
    `extra_headers`: further headers of requests and responses, for the document (fleet.api.openapi.headers).
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Response]:
        @functools.wraps(method)
        def call(view: Any, request: Request, **path: str) -> Response:
            query_type = query or Strict
            raw_query = query_of(query_type, request)
            validated_query = validate(query_type, raw_query, noun="parameter") if raw_query else _defaults(query_type)
            arguments: dict[str, Any] = {"query": validated_query} if query else {}
            if body:
                arguments["body"] = validate(body, request.data)
            elif request.method == "POST" or request.data:
                validate(Strict, request.data or {})

            def handle() -> Any:
                result = method(view, request, **path, **arguments)
                return result if isinstance(result, HttpResponseBase) else Response(result, status=status)

            if request.method == "POST" and not secret:
                caller = view.idempotency_caller(request)
                return idempotency.once(
                    request=request,
                    caller=caller,
                    access=lambda: view.idempotency_access(request),
                    handle=handle,
                    commits=commits,
                )
            return conditional.apply_if_none_match(request=request, response=handle())

        call.endpoint = Endpoint(action=action, body=body)  # type: ignore[attr-defined]
        verb = method.__name__
        parameters: list[Any] = [query] if query else []
        parameters += [headers.IDEMPOTENCY_KEY] if verb == "post" and not secret else []
        parameters += [headers.IF_MATCH, headers.ETAG] if if_match else []
        parameters += [headers.LOCATION] if (status in {201, 202} if location is None else location) else []
        parameters += extra_headers
        unchanged = (
            {304: OpenApiResponse(description="Not modified.")} if headers.IF_NONE_MATCH in extra_headers else {}
        )
        problem = OpenApiResponse(Problem, description="The problem, as application/problem+json")
        return extend_schema(
            summary=_summary(method),
            request=body,
            parameters=parameters,
            responses={
                **(response if isinstance(response, dict) else {status: response}),
                **unchanged,
                ("4XX", "application/problem+json"): problem,
                ("5XX", "application/problem+json"): problem,
            },
        )(call)

    return decorate


def _summary(method: Callable[..., Any]) -> str:
    """The first sentence of the docstring, without backticks: OpenAPI summaries are plain text."""
    text = " ".join((method.__doc__ or "").split())
    return text.partition(". ")[0].partition("; ")[0].rstrip(".").replace("`", "")


def validate(serializer: type[Strict], data: Any, *, noun: str = "field") -> Validated:
    """The validated data. Raises ValidationError with all errors, which call a part of the data a `noun`."""
    bound = serializer(data=data, context={"noun": noun})
    bound.is_valid(raise_exception=True)
    validated: Validated = bound.validated_data
    return validated


@functools.cache
def _defaults(serializer: type[Strict]) -> Validated:
    """The validated form of an empty query, cached because most requests have none."""
    return MappingProxyType(dict(validate(serializer, {})))


def query_of(serializer: type[Strict], request: Request) -> dict[str, Any]:
    """The query parameters: lists for fields that take several values, text for the others.

    Raises ValidationError if a parameter that takes one value is repeated.
    """
    takes_several = _takes_several(serializer)
    parameters = dict(request.query_params.lists())
    repeated = [name for name, values in parameters.items() if len(values) > 1 and takes_several.get(name) is False]
    if repeated:
        raise serializers.ValidationError({name: ["Send it only once."] for name in repeated}, code="repeated")
    return {name: values if takes_several.get(name) else values[0] for name, values in parameters.items()}


@functools.cache
def _takes_several(serializer: type[Strict]) -> Mapping[str, bool]:
    """Whether each field, by name, takes several values."""
    listed = serializers.MultipleChoiceField | serializers.ListField
    return {name: isinstance(field, listed) for name, field in serializer().fields.items()}
