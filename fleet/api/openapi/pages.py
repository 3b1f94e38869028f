"""Views of the OpenAPI document, and of the page on which to read and try it (Swagger UI)."""

from __future__ import annotations

import functools
import threading
from typing import Any, ClassVar

from django.http import HttpResponse, JsonResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from fleet.api.endpoints import query_of, validate
from fleet.api.serializers import Strict
from fleet.limits import counting
from fleet.limits.rates import RequestKind


class _DocumentView(APIView):
    """Public, within the usual rate limits: clients read the document before they sign in."""

    documents = True
    authentication_classes: ClassVar[list[Any]] = []  # type: ignore[misc]
    permission_classes: ClassVar[list[Any]] = [AllowAny]  # type: ignore[misc]
    http_method_names = ["get", "head"]
    quota = counting.UNLIMITED

    def initial(self, request: Request, *arguments: Any, **path: Any) -> None:
        user = request._request.user
        if user.is_authenticated:
            self.quota = counting.charge(request=request._request, kind=RequestKind.SESSION, identity=str(user.pk))
        else:
            self.quota = counting.charge(request=request._request, kind=RequestKind.IP)
        if self.quota.refused:
            raise counting.TooManyRequests(self.quota)
        super().initial(request, *arguments, **path)

    def handle_exception(self, exc: Exception) -> Any:
        """Render a problem as JSON, even where the document would be YAML or HTML."""
        response = super().handle_exception(exc)
        return JsonResponse(response.data, status=response.status_code, content_type=response.content_type)

    def finalize_response(self, request: Request, response: Any, *arguments: Any, **path: Any) -> Any:
        final = super().finalize_response(request, response, *arguments, **path)
        for name, value in counting.headers(self.quota).items():
            final.headers[name] = value
        return final


class SchemaQuery(Strict):
    format = serializers.ChoiceField(["json", "yaml"], required=False)


class Schema(_DocumentView, SpectacularAPIView):
    """The document in the requested format, or the one that `Accept` prefers."""

    @extend_schema(exclude=True)
    def get(self, request: Request, *arguments: Any, **path: Any) -> HttpResponse:
        renderer: Any = request.accepted_renderer
        headers = {"Content-Disposition": f'inline; filename="fleet.{renderer.format}"'}
        return HttpResponse(render_document(type(renderer)), content_type=renderer.media_type, headers=headers)

    def get_format_suffix(self, **path: Any) -> Any:
        return validate(SchemaQuery, query_of(SchemaQuery, self.request), noun="parameter").get("format")


def render_document(renderer: Any) -> bytes:
    """The document in the format of a renderer class.

    It is generated once per process, under a lock: that takes a second of CPU time, and the generator is not
    thread-safe.
    """
    with _generation_lock:
        return _cached_rendering(renderer)


_generation_lock = threading.Lock()


@functools.cache
def _cached_rendering(renderer: Any) -> bytes:
    return bytes(renderer().render(_document(), renderer_context={}))


@functools.cache
def _document() -> Any:
    return SchemaGenerator().get_schema(request=None, public=True)


class Docs(_DocumentView, SpectacularSwaggerSplitView):
    """Swagger UI from an installed package: the page loads nothing from other hosts and runs no inline script."""

    url_name = "api-schema"
    template_name = "fleet/docs.html"
