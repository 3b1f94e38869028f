"""Templates: plans that operators offer to everybody. The text is checked as a plan before it is saved."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextareaWidget

from fleet import errors
from fleet.admin.pages import AuditedAdmin
from missions import folders, plan
from missions.admin import rendering
from missions.models import Template
from missions.operations import plan_reading


class TemplateForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    class Meta:
        model = Template
        fields = ("name", "description", "text", "folder", "enabled")
        widgets = {"text": UnfoldAdminTextareaWidget(attrs={"rows": 24, "class": "font-mono"})}

    def clean_text(self) -> str:
        text: str = self.cleaned_data["text"]
        try:
            plan_reading.load(text)
        except plan.PlanError as error:
            raise ValidationError([str(problem) for problem in error.problems]) from error
        except errors.Unavailable as error:
            raise ValidationError(str(error)) from error
        return text

    def clean(self) -> dict[str, Any]:
        """Refuse links under `readable`: work could replace them later, so attempts do not follow them."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if "text" in data:
            links = folders.links_of_template(plan_reading.load(data["text"]), folder=data.get("folder", ""))
            for path, target in links.items():
                self.add_error("text", f"`readable`: {path} contains a symbolic link. Write its target: {target}")
        return data


@admin.register(Template)
class TemplateAdmin(AuditedAdmin):
    form: Any = TemplateForm
    list_display = ("name", "description", "enabled")
    list_filter = ("enabled",)
    search_fields = ("name", "description")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Mask the plan's secrets for users who may not change it."""
        can_edit = self.has_change_permission(request, obj) if obj else True
        return [name if can_edit or name != "text" else "masked_text" for name in TemplateForm.Meta.fields]

    @admin.display(description="text")
    def masked_text(self, template: Template) -> SafeString:
        return rendering.plan_text(template.text)

    def audit_data(self, row: Template) -> dict[str, Any]:
        """The row for the audit trail, with the secrets of its plan masked."""
        return {**super().audit_data(row), "text": plan_reading.masked(row.text)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Adding and changing templates requires plan.execute, because launching a template does not.

        This holds for templates without code too: the agents of a mission may add sorties with code.
        """
        return bool(super().has_add_permission(request)) and rendering.can_execute(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(super().has_change_permission(request, obj)) and rendering.can_execute(request)
