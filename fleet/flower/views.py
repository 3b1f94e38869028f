"""Flower through the site, read-only and for superusers.

GET is allowed for the paths of `_ALLOWED_PATH`, and POST for one list of tasks, because Flower's page reads it that
way. Everything else is refused here and again by Flower, which runs read-only. To end, drain or start agents, use
`fleet_agents` or the admin, which check permissions.

Each page gets a line on top that links back and explains Flower's counts.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Generator
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.html import format_html
from django.views.decorators.csrf import csrf_exempt

from fleet import errors
from fleet.flower import client

_NAME = r"[^/\\\x00-\x1f\x7f]+"  # of a worker or a task
_ALLOWED_PATH = re.compile(
    rf"(|workers|worker/{_NAME}|tasks|task/{_NAME}|broker|api/workers|api/tasks|api/task/types|api/task/info/{_NAME}"
    r"|api/queues/length|static/(?:[\w.-]+/)*[\w.-]+)"
)
_HTML_PAGE = re.compile(r"|workers|worker/.+|tasks|task/.+|broker")
_READ_BY_POST = "tasks/datatable"
_BODY = re.compile(rb"<body\b[^>]*>")
_POST_BYTES = 65_536
_REQUEST_HEADERS = (
    "Accept", "Accept-Encoding", "Accept-Language", "Content-Length", "Content-Type", "Host", "If-Modified-Since",
    "If-None-Match", "Origin", "Range", "Sec-Fetch-Site", "X-Requested-With",
)  # fmt: skip
# Not for pages, which are modified here and must not be cached, compressed or partial.
_NOT_FOR_PAGES = {"Accept-Encoding", "If-Modified-Since", "If-None-Match", "Range"}
# Headers of one connection (RFC 9110, 7.6.1), and those by which Flower would authenticate or set cookies.
_DROPPED_RESPONSE_HEADERS = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "date", "server", "set-cookie", "www-authenticate",
}  # fmt: skip


@csrf_exempt  # the view changes nothing, so there is nothing to forge
def flower(request: HttpRequest, path: str) -> HttpResponseBase:
    """Proxy a request to Flower: 403 unless the user is a superuser, 404 or 405 if not allowed, 502 without Flower."""
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    if not (request.user.is_active and request.user.is_superuser):
        raise PermissionDenied("Flower is for superusers.")
    if path == _READ_BY_POST:
        if request.method not in {"GET", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdigit() or int(length) > _POST_BYTES:
            return HttpResponse("The request body is too large.\n", status=413, content_type="text/plain")
    elif not _ALLOWED_PATH.fullmatch(path) or ".." in path.split("/"):
        raise Http404("This page of Flower is not available here.")
    elif request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    return _forward(request, path)


def _forward(request: HttpRequest, path: str) -> HttpResponseBase:
    query = request.META.get("QUERY_STRING", "")
    is_page = _HTML_PAGE.fullmatch(path) is not None
    headers = {name: request.headers[name] for name in _REQUEST_HEADERS if request.headers.get(name)}
    if is_page:
        headers = {name: value for name, value in headers.items() if name not in _NOT_FOR_PAGES}
    target = f"/{client.PREFIX}/{quote(path, safe='/@')}" + (f"?{quote(query, safe='%=&+[]/:@')}" if query else "")
    try:
        upstream = client.send_request(
            home=settings.FLEET_HOME,
            credentials=settings.FLEET_CREDENTIALS,
            method=request.method or "GET",
            target=target,
            headers=headers,
            body=request if request.method == "POST" else None,  # type: ignore[arg-type]  # it has the read() of a file
        )
    except errors.Unavailable as error:
        return HttpResponse(f"{error}\n", status=502, content_type="text/plain; charset=utf-8")
    dropped = set(_DROPPED_RESPONSE_HEADERS)
    response: HttpResponseBase
    if is_page:
        response = HttpResponse(_with_banner(b"".join(upstream.body)), status=upstream.status)
        dropped |= {"content-length", "etag"}
    else:
        response = StreamingHttpResponse(_stream(upstream.body), status=upstream.status)
    del response.headers["Content-Type"]
    connection_options = ",".join(value for name, value in upstream.headers if name.lower() == "connection")
    dropped |= {option.strip().lower() for option in connection_options.split(",")}
    for name, value in upstream.headers:
        leaves_flower = name.lower() == "location" and not value.startswith(f"/{client.PREFIX}/")
        if name.lower() not in dropped and not leaves_flower:
            response.headers[name] = value
    response.headers["Cache-Control"] = "private, no-store" if "static/" not in path else "private, max-age=3600"
    return response


def _with_banner(page: bytes) -> bytes:
    """Insert the line that links back and explains Flower's counts at the top of a page."""
    banner = format_html(
        '<div style="padding: .5rem 1rem; font: 14px/1.5 system-ui, sans-serif; background: #f3e8ff; color: #1f2937">'
        '<a href="{}" style="color: #7e22ce">← Fleet admin</a> · Flower shows agents and the messages that wake them, not '
        "sorties. One message can start many sorties or none, and counts as failed if one of them failed for good, unless "
        "its plan tolerates that. Agents also take work without a message. For the results of the work, see "
        '<a href="{}" style="color: #7e22ce">sorties</a>.</div>',
        reverse("admin:index"),
        reverse("admin:missions_sortie_changelist"),
    ).encode()
    return _BODY.sub(lambda body: body[0] + banner, page, count=1)


async def _stream(pieces: Generator[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces, read off the event loop; the connection is closed when either side hangs up."""
    next_piece = sync_to_async(lambda: next(pieces, None), thread_sensitive=False)
    try:
        while piece := await next_piece():
            yield piece
    finally:
        with contextlib.suppress(ValueError):  # a thread that is no longer awaited is still reading from it
            pieces.close()
