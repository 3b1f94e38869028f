"""What operators offer to be launched."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.api.endpoints import Given, endpoint
from fleet.api.http.paging import Paged, of, page
from fleet.api.views import ApiView
from missions import plan
from missions.api import shapes
from missions.models import Template
from missions.plan import InputSpec
from missions.queries import surroundings


class Templates(ApiView):
    @endpoint("templates.list", query=Paged, answer=of(shapes.TemplateAnswer))
    def get(self, request: Request, *, asked: Given) -> Response:
        """The templates, each with the inputs that it takes."""
        found = Template.objects.filter(enabled=True)
        return page(request, found, asked=asked, shape=lambda rows: [_shape(one) for one in rows], ordering="name")


@functools.lru_cache(maxsize=200)
def _inputs(text: str) -> Mapping[str, InputSpec]:
    """Read once and not at each look: a plan may be long. Whether its types are there is seen when it is launched."""
    return plan.load(text=text, surroundings=surroundings.without_database()).inputs


def _shape(template: Template) -> dict[str, Any]:
    try:
        inputs = {
            one.name: {"description": one.description, "required": one.required, "default": one.default}
            for one in _inputs(template.text).values()
        }
    except errors.Invalid:  # one from before the plan format took something back, say: launching it tells
        inputs = {}
    return {"name": template.name, "description": template.description, "inputs": inputs}
