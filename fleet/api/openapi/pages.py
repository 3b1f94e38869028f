"""The OpenAPI document, made from the endpoints' declarations, and a page to read it and to try it."""

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

from fleet.api.endpoints import query_of, valid
from fleet.api.serializers import Strict
from fleet.limits import counting
from fleet.limits.rates import Kind


class _Open(APIView):
    """For everybody, as often as everything else: it holds nothing of this fleet's own, and clients read it before they sign
    in."""

    documents = True
    authentication_classes: ClassVar[list[Any]] = []  # type: ignore[misc]
    permission_classes: ClassVar[list[Any]] = [AllowAny]  # type: ignore[misc]
    http_method_names = ["get", "head"]
    standing = counting.FREE

    def initial(self, request: Request, *arguments: Any, **path: Any) -> None:
        user = request._request.user
        if user.is_authenticated:
            self.standing = counting.charge(request=request._request, kind=Kind.SESSION, who=str(user.pk))
        else:
            self.standing = counting.charge(request=request._request, kind=Kind.IP)
        if self.standing.refused:
            raise counting.Refused(self.standing)
        super().initial(request, *arguments, **path)

    def handle_exception(self, exc: Exception) -> Any:
        """A problem is JSON, also where the document would be YAML or a page."""
        answer = super().handle_exception(exc)
        return JsonResponse(answer.data, status=answer.status_code, content_type=answer.content_type)

    def finalize_response(self, request: Request, response: Any, *arguments: Any, **path: Any) -> Any:
        answer = super().finalize_response(request, response, *arguments, **path)
        for name, value in counting.headers(self.standing).items():
            answer.headers[name] = value
        return answer


class Asked(Strict):
    format = serializers.ChoiceField(["json", "yaml"], required=False)


class Schema(_Open, SpectacularAPIView):
    """The document, in the format that is asked for, or else in what `Accept` takes."""

    @extend_schema(exclude=True)
    def get(self, request: Request, *arguments: Any, **path: Any) -> HttpResponse:
        asked: Any = request.accepted_renderer
        kept = {"Content-Disposition": f'inline; filename="fleet.{asked.format}"'}
        return HttpResponse(written(type(asked)), content_type=asked.media_type, headers=kept)

    def get_format_suffix(self, **path: Any) -> Any:
        return valid(Asked, query_of(Asked, self.request)).get("format")


def written(renderer: Any) -> bytes:
    """The document as this renderer writes it. It is made once in a process: that takes a second of a processor, and what
    makes it is not for several threads."""
    with _making:
        return _written(renderer)


_making = threading.Lock()


@functools.cache
def _written(renderer: Any) -> bytes:
    return bytes(renderer().render(_made(), renderer_context={}))


@functools.cache
def _made() -> Any:
    return SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]


class Docs(_Open, SpectacularSwaggerSplitView):
    """Swagger UI, from the package beside it: the page loads nothing from elsewhere, and runs no inline script."""

    url_name = "api-schema"
    template_name = "fleet/docs.html"
