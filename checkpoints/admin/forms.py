"""The form of a fork."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget


class ForkForm(forms.Form):
    name = forms.CharField(
        max_length=200,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="The name of the new mission. Default: the name of the original.",
    )
    sorties = forms.CharField(
        max_length=100_000,
        required=False,
        label="Run again",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 5}),
        help_text="Keys of sorties, one per line. They and everything that depends on them run again. The others keep "
        "their results.",
    )
    params = forms.JSONField(
        required=False,
        initial=dict,
        label="Change inputs",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text='A JSON object, such as {"branch": "main"}.',
    )
    start = forms.BooleanField(required=False, label="Start it immediately", widget=UnfoldBooleanWidget)

    def clean_sorties(self) -> list[str]:
        return [line.strip() for line in self.cleaned_data["sorties"].splitlines() if line.strip()]

    def clean_params(self) -> dict[str, Any]:
        params = self.cleaned_data["params"] or {}
        if not isinstance(params, dict):
            raise forms.ValidationError("Pass a JSON object.")
        return params
