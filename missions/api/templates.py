"""What operators offer to be launched."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.api.endpoints import Given, endpoint
from fleet.api.paging import Paged, of, page
from fleet.api.views import ApiView
from missions.api import launching, shapes
from missions.models import Template


class Templates(ApiView):
    @endpoint("templates.list", query=Paged, answer=of(shapes.TemplateAnswer))
    def get(self, request: Request, *, asked: Given) -> Response:
        """The templates, each with the inputs that it takes."""
        found = Template.objects.filter(enabled=True)
        return page(request, found, asked=asked, shape=lambda rows: [_shape(one) for one in rows], ordering="name")


def _shape(template: Template) -> dict[str, Any]:
    try:
        inputs = {
            one.name: {"description": one.description, "required": one.required, "default": one.default}
            for one in launching.read(template.text)[0].inputs.values()
        }
    except errors.Invalid:  # a type that it names is gone, say: launching it tells
        inputs = {}
    return {"name": template.name, "description": template.description, "inputs": inputs}
