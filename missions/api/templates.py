"""Templates over HTTP."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.views import ApiView
from missions import plan
from missions.api import responses
from missions.models import Template
from missions.plan import InputSpec
from missions.queries import plan_context


class Templates(ApiView):
    @endpoint("templates.list", query=PageQuery, response=page_of(responses.TemplateResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """List templates, each with its inputs."""
        templates = Template.objects.filter(enabled=True)
        return paginate(
            request, templates, query=query, serialize=lambda rows: [*map(_serialize, rows)], ordering="name"
        )


@functools.lru_cache(maxsize=200)
def _inputs(text: str) -> Mapping[str, InputSpec]:
    """The inputs of a plan. Cached, because a plan may be long; agent types are checked only when it is launched.

    Empty if it is not valid, for example after a change of the plan format: launching it reports the problems.
    """
    try:
        return plan.load(text=text, context=plan_context.without_database()).inputs
    except errors.Invalid:
        return {}


def _serialize(template: Template) -> dict[str, Any]:
    inputs = {
        spec.name: {"description": spec.description, "required": spec.required, "default": spec.default}
        for spec in _inputs(template.text).values()
    }
    return {"name": template.name, "description": template.description, "inputs": inputs}
