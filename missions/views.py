"""Download of artifacts, for signed-in staff."""

from __future__ import annotations

from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import permission_required
from django.core.files import File
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from fleet import errors, ids
from missions.artifacts import collection
from missions.models import Artifact

CHUNK_BYTES = 1 << 18


@require_safe
@staff_member_required
@permission_required("missions.view_artifact", raise_exception=True)
def artifact(request: HttpRequest, ref: str) -> StreamingHttpResponse:
    """An artifact's bytes, as an attachment, so that browsers save what a sortie produced and never run it."""
    try:
        row = Artifact.objects.filter(id=ids.decode(ids.ARTIFACT, ref)).first()
        if row is None:
            raise errors.NotFound(f"There is no artifact {ref}.")
        return attachment(row)
    except (errors.NotFound, errors.Invalid) as error:
        raise Http404(str(error)) from error


def attachment(file: Artifact) -> StreamingHttpResponse:
    """A response that browsers save and never display on the fleet's own origin. NotFound if the bytes are missing."""
    content = collection.open_stored(file)
    return StreamingHttpResponse(
        _chunks(content),
        content_type="application/octet-stream",
        headers={
            "ETag": f'"{file.digest}"',
            "Content-Length": str(content.size),
            "Content-Disposition": content_disposition_header(True, file.path.rpartition("/")[2]) or "attachment",
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-store",
        },
    )


async def _chunks(content: File[bytes]) -> AsyncIterator[bytes]:
    """Read the file in chunks. Django's FileResponse is synchronous, and under ASGI would be read into memory whole."""
    with content:
        while piece := await sync_to_async(content.read, thread_sensitive=False)(CHUNK_BYTES):
            yield piece
