"""The admin page on which people change their own password."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.debug import sensitive_post_parameters

from fleet.access import operations


@sensitive_post_parameters()
def page(request: HttpRequest) -> HttpResponseBase:
    """Django's page, plus `operations.password_changed` if the password changed."""
    with transaction.atomic():
        before = _password_hash(request)
        response: HttpResponseBase = admin.site.admin_view(admin.site.password_change, cacheable=True)(request)
        if before is not None and _password_hash(request) != before:
            operations.password_changed(user=User.objects.get(username=request.user.get_username()))
    return response


def _password_hash(request: HttpRequest) -> str | None:
    """The stored hash; None unless the request is a POST."""
    if request.method != "POST":
        return None
    return User.objects.filter(username=request.user.get_username()).values_list("password", flat=True).first()
