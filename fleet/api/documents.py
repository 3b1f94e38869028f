"""The OpenAPI document, made from the endpoints' declarations, and a page to read it and to try it."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny


class Schema(SpectacularAPIView):
    """Open to everybody: it holds nothing of this fleet's own, and clients read it before they sign in."""

    documents = True
    authentication_classes: ClassVar[list[Any]] = []  # type: ignore[misc]
    permission_classes: ClassVar[list[Any]] = [AllowAny]  # type: ignore[misc]


class Docs(SpectacularSwaggerSplitView):
    """Swagger UI, from the package beside it: the page loads nothing from elsewhere, and runs no inline script."""

    documents = True
    url_name = "api-schema"
    authentication_classes: ClassVar[list[Any]] = []  # type: ignore[misc]
    permission_classes: ClassVar[list[Any]] = [AllowAny]  # type: ignore[misc]
