"""Artifacts to download, for signed-in staff."""

from __future__ import annotations

from django.contrib.admin.views.decorators import staff_member_required
from django.http import FileResponse, Http404, HttpRequest
from django.views.decorators.http import require_safe

from fleet import errors, ids
from missions import artifacts
from missions.models import Artifact


@require_safe
@staff_member_required
def artifact(request: HttpRequest, ref: str) -> FileResponse:
    """The bytes as an attachment: whatever a sortie made, no browser runs it here."""
    try:
        found = Artifact.objects.filter(id=ids.decode(ids.ARTIFACT, ref)).first()
        if found is None:
            raise errors.NotFound(f"There is no artifact {ref}.")
        content = artifacts.open_stored(found)
    except (errors.NotFound, errors.Invalid) as fault:
        raise Http404(str(fault)) from fault
    response = FileResponse(content, as_attachment=True, filename=found.path.rpartition("/")[2])
    response["Content-Type"] = "application/octet-stream"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response
