"""Flower through the site: for superusers, for reading.

Whoever may look sees what Flower shows; nobody acts through it. Allowed are the pages and figures named in `_OPEN`,
by GET; one list of tasks is asked for by POST, which only reads. All else is refused here, and once more by Flower,
which runs read-only: to end, drain or start agents there are `fleet_agents` and the admin, which ask who it is.

Each page of it gets a line on top: the way back, and what Flower's counts are.
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
from fleet.flower import door

_NAME = r"[^/\\\x00-\x1f\x7f]+"  # of a worker or a task
_OPEN = re.compile(
    rf"(|workers|worker/{_NAME}|tasks|task/{_NAME}|broker|api/workers|api/tasks|api/task/types|api/task/info/{_NAME}"
    r"|api/queues/length|static/(?:[\w.-]+/)*[\w.-]+)"
)
_PAGE = re.compile(r"|workers|worker/.+|tasks|task/.+|broker")
_READ_BY_POST = "tasks/datatable"
_BODY = re.compile(rb"<body\b[^>]*>")
_POST_BYTES = 65_536
_PASSED_ON = (
    "Accept", "Accept-Encoding", "Accept-Language", "Content-Length", "Content-Type", "Host", "If-Modified-Since",
    "If-None-Match", "Origin", "Range", "Sec-Fetch-Site", "X-Requested-With",
)  # fmt: skip
_OF_A_COPY = {
    "Accept-Encoding",
    "If-Modified-Since",
    "If-None-Match",
    "Range",
}  # pages are changed here, and never kept
# Of one connection (RFC 9110, 7.6.1), or Flower's word on who is who, which is the site's to give.
_NOT_GIVEN_BACK = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "date", "server", "set-cookie", "www-authenticate",
}  # fmt: skip


@csrf_exempt  # nothing here changes anything, so there is nothing to forge; see the module's text
def flower(request: HttpRequest, path: str) -> HttpResponseBase:
    """One request to Flower. 403 for everybody but superusers, 404 and 405 for what is not open, 502 without Flower."""
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    if not (request.user.is_active and request.user.is_superuser):
        raise PermissionDenied("Flower is for superusers.")
    if path == _READ_BY_POST:
        if request.method not in {"GET", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdigit() or int(length) > _POST_BYTES:
            return HttpResponse("Too large.\n", status=413, content_type="text/plain")
    elif not _OPEN.fullmatch(path) or ".." in path.split("/"):
        raise Http404("Flower has no such page here.")
    elif request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    return _pass_on(request, path)


def _pass_on(request: HttpRequest, path: str) -> HttpResponseBase:
    query = request.META.get("QUERY_STRING", "")
    is_page = _PAGE.fullmatch(path) is not None
    passed_on = {name: request.headers[name] for name in _PASSED_ON if request.headers.get(name)}
    if is_page:
        passed_on = {name: value for name, value in passed_on.items() if name not in _OF_A_COPY}
    target = f"/{door.PREFIX}/{quote(path, safe='/@')}" + (f"?{quote(query, safe='%=&+[]/:@')}" if query else "")
    try:
        answer = door.ask(
            home=settings.FLEET_HOME,
            credentials=settings.FLEET_CREDENTIALS,
            method=request.method or "GET",
            target=target,
            headers=passed_on,
            body=request if request.method == "POST" else None,  # type: ignore[arg-type]  # it has a file's read()
        )
    except errors.Unavailable as fault:
        return HttpResponse(f"{fault}\n", status=502, content_type="text/plain; charset=utf-8")
    dropped = set(_NOT_GIVEN_BACK)
    response: HttpResponseBase
    if is_page:
        response = HttpResponse(_explained(b"".join(answer.body)), status=answer.status)
        dropped |= {"content-length", "etag"}
    else:
        response = StreamingHttpResponse(_stream(answer.body), status=answer.status)
    del response.headers["Content-Type"]
    named = ",".join(value for name, value in answer.headers if name.lower() == "connection")
    dropped |= {word.strip().lower() for word in named.split(",")}
    for name, value in answer.headers:
        leads_away = name.lower() == "location" and not value.startswith(f"/{door.PREFIX}/")
        if name.lower() not in dropped and not leads_away:
            response.headers[name] = value
    response.headers["Cache-Control"] = "private, no-store" if "static/" not in path else "private, max-age=3600"
    return response


def _explained(page: bytes) -> bytes:
    """The page with a line on top."""
    line = format_html(
        '<div style="padding: .5rem 1rem; font: 14px/1.5 system-ui, sans-serif; background: #f3e8ff; color: #1f2937">'
        '<a href="{}" style="color: #7e22ce">← Fleet admin</a> · Flower shows agents and the messages that wake them, not '
        "sorties. One message can fly many sorties or none, and counts as failed if one of them failed; an agent also takes "
        'work without a message. What became of the work: <a href="{}" style="color: #7e22ce">sorties</a>.</div>',
        reverse("admin:index"),
        reverse("admin:missions_sortie_changelist"),
    ).encode()
    return _BODY.sub(lambda body: body[0] + line, page, count=1)


async def _stream(pieces: Generator[bytes]) -> AsyncIterator[bytes]:
    """Piece by piece, off the event loop; closed with the response, whoever hangs up first."""
    following = sync_to_async(lambda: next(pieces, None), thread_sensitive=False)
    try:
        while piece := await following():
            yield piece
    finally:
        with contextlib.suppress(ValueError):  # it is just being read, in a thread that nobody waits for any more
            pieces.close()
