"""What operators offer to be launched."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

from fleet import errors
from fleet.api.endpoints import endpoint
from fleet.api.views import ApiView
from missions.api import launching, shapes
from missions.models import Template


class Templates(ApiView):
    @endpoint("templates.list", answer=shapes.TemplateAnswer(many=True))
    def get(self, request: Request) -> list[dict[str, Any]]:
        """The templates, each with the inputs that it takes."""
        return [_shape(one) for one in Template.objects.filter(enabled=True)]


def _shape(template: Template) -> dict[str, Any]:
    try:
        inputs = {
            one.name: {"description": one.description, "required": one.required, "default": one.default}
            for one in launching.read(template.text)[0].inputs.values()
        }
    except errors.Invalid:  # a type that it names is gone, say: launching it tells
        inputs = {}
    return {"name": template.name, "description": template.description, "inputs": inputs}
