"""Byte ranges (RFC 9110, section 14): one range of what is in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.http import HttpResponse
from rest_framework.request import Request

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


def answer(*, request: Request, content: bytes, media_type: str, more: Mapping[str, str]) -> HttpResponse:
    """All of it, or the range that is asked for: 206, or 416 where there is nothing in it. What is no single range of
    bytes is passed over, as the standard allows."""
    headers = {**more, "Accept-Ranges": "bytes"}
    asked = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if asked is None or asked.groups() == ("", ""):
        return HttpResponse(content, content_type=media_type, headers=headers)
    first, last = asked.groups()
    size = len(content)
    begin = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if begin > end:
        headers["Content-Range"] = f"bytes */{size}"
        return HttpResponse(b"", status=416, content_type=media_type, headers=headers)
    headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
    return HttpResponse(content[begin : end + 1], status=206, content_type=media_type, headers=headers)
