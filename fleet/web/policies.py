"""What the pages of the site may load and do: a Content Security Policy for each part of it (django-csp).

- Everything: nothing at all. What the API and the probes answer is data.
- /admin/: scripts, styles and pictures of ours, styles in the page, and `eval`: Unfold's pages are written for Alpine, which
  compiles the expressions in them. No script in the page runs, whoever wrote it there.
- /flower/: scripts, styles and pictures of ours, and those in the page: Flower's pages hold both.
- /api/v1/docs: scripts, styles and pictures of ours, and styles in the page, which Swagger UI sets.

A view that needs another one (a stored file, say) sends its own header, which is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase

DATA = "data:"
Policy = Mapping[str, Any]

NOTHING: Policy = {
    "default-src": [NONE],
    "base-uri": [NONE],
    "form-action": [NONE],
    "frame-ancestors": [NONE],
}
PAGES: Policy = {
    **NOTHING,
    "connect-src": [SELF],
    "font-src": [SELF],
    "form-action": [SELF],
    "img-src": [SELF, DATA],
    "script-src": [SELF],
    "style-src": [SELF],
}
ADMIN: Policy = {**PAGES, "script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}
FLOWER: Policy = {**PAGES, "script-src": [SELF, UNSAFE_INLINE], "style-src": [SELF, UNSAFE_INLINE]}
DOCS: Policy = {**PAGES, "style-src": [SELF, UNSAFE_INLINE]}
PARTS: Mapping[str, Policy] = {"/admin/": ADMIN, "/flower/": FLOWER, "/api/v1/docs": DOCS}


class Policies(CSPMiddleware):
    """By the path. It only computes, so under ASGI it does so where it is, and not in a thread as Django would have it."""

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self.get_response):
            return self._awaited(request)
        self.process_request(request)
        response: Any = self.get_response(request)
        return self.process_response(request, response)

    async def _awaited(self, request: HttpRequest) -> HttpResponseBase:
        self.process_request(request)
        waiting: Any = self.get_response(request)
        return self.process_response(request, await waiting)

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if not report_only and parts.config is None:
            part = next((one for prefix, one in PARTS.items() if request.path_info.startswith(prefix)), NOTHING)
            parts.config = dict(part)
        return parts
