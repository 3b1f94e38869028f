"""The Content Security Policy of each part of the site (django-csp).

- By default, nothing is allowed: the API and the probes return data.
- /admin/: our scripts, styles and images, inline styles, and `eval`, because Unfold's pages use Alpine, which compiles
  expressions. Inline scripts do not run.
- /flower/: our scripts, styles and images, inline styles, and the one inline script of Flower's pages, by its digest. No
  other inline script runs: Flower writes some values from Redis into its pages without escaping them.
- /api/v1/docs: our scripts, styles and images, and inline styles, which Swagger UI sets.

A view that needs another policy, for example for a stored file, sends its own header, which takes precedence.
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
FLOWER_SCRIPT = "'sha256-A0YIP5A+DKoseGAUTHRoMPDkKPK5cKzfYH3mjcCKtj8='"  # var autorefresh = 1;
FLOWER: Policy = {**PAGES, "script-src": [SELF, FLOWER_SCRIPT], "style-src": [SELF, UNSAFE_INLINE]}
DOCS: Policy = {**PAGES, "style-src": [SELF, UNSAFE_INLINE]}
PARTS: Mapping[str, Policy] = {"/admin/": ADMIN, "/flower/": FLOWER, "/api/v1/docs": DOCS}


class Policies(CSPMiddleware):
    """Selects the policy by path. It never blocks, so under ASGI it runs in the event loop, not in a thread."""

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self.get_response):
            return self._async_call(request)
        self.process_request(request)
        response: Any = self.get_response(request)
        return self.process_response(request, response)

    async def _async_call(self, request: HttpRequest) -> HttpResponseBase:
        self.process_request(request)
        pending: Any = self.get_response(request)
        return self.process_response(request, await pending)

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if not report_only and parts.config is None:
            policy = next((policy for prefix, policy in PARTS.items() if request.path_info.startswith(prefix)), NOTHING)
            parts.config = dict(policy)
        return parts
