"""Byte ranges (RFC 9110, section 14): one range of content in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.http import HttpResponse
from rest_framework.request import Request

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


def respond(*, request: Request, content: bytes, media_type: str, headers: Mapping[str, str]) -> HttpResponse:
    """The whole content, or the requested range: 206, or 416 if the range is empty.

    A Range header that is not one range of bytes is ignored, as the standard allows.
    """
    headers = {**headers, "Accept-Ranges": "bytes"}
    match = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if match is None or match.groups() == ("", ""):
        return HttpResponse(content, content_type=media_type, headers=headers)
    first, last = match.groups()
    size = len(content)
    begin = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if begin > end:
        headers["Content-Range"] = f"bytes */{size}"
        return HttpResponse(b"", status=416, content_type=media_type, headers=headers)
    headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
    return HttpResponse(content[begin : end + 1], status=206, content_type=media_type, headers=headers)
