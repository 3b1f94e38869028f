"""What agents from outside do over HTTP: take sorties, keep their leases, report, complete or fail them. And what the work of
the fleet's own agents does: report.

An attempt is proved by its lease token, which stands in the answer to the claim, or in FLEET_TOKEN: as the bearer token, or as
`token` in the body where the caller shows a machine key.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request

from fleet import errors, ids
from fleet.access.actor import Actor
from fleet.access.models import Role
from fleet.api.endpoints import Given, endpoint
from fleet.api.serializers import Id, Json, Strict, Text
from fleet.api.views import ApiView, actor
from missions.api import shapes
from missions.models import Sortie
from missions.operations import external_agents

TOKEN = 200


class Claim(Strict):
    agent = Id(ids.AGENT, max_length=40, help_text="one that the caller registered")
    count = serializers.IntegerField(
        default=1, min_value=1, max_value=external_agents.MOST,
        help_text="at most, and no more at once than the agent's `concurrency` (409)",
    )  # fmt: skip


class Held(Strict):
    token = serializers.CharField(
        max_length=TOKEN, required=False, initial=shapes.TOKEN, help_text="the lease token, where it is not the bearer"
    )


class Report(Held):
    fraction = serializers.FloatField(required=False, min_value=0, max_value=1, initial=0.4)
    note = Text(max_length=200, required=False, default="", allow_blank=True, initial="4 of 10 files")
    output = serializers.CharField(
        required=False, default="", allow_blank=True, trim_whitespace=False, max_length=100_000,
        initial="mended a.py\n", help_text="what it printed since the last report",
    )  # fmt: skip


class Complete(Held):
    result = Json(
        most=settings.FLEET_RESULT_BYTES, required=False, allow_null=True, default=None, initial={"findings": 3}
    )
    sorties = serializers.ListField(
        child=Json(most=100_000), required=False, default=list, max_length=settings.FLEET_MAX_ADDED,
        help_text="more sorties, as FLEET_SORTIES has them; those that run code need plan.execute",
    )  # fmt: skip
    verified = serializers.IntegerField(
        required=False, allow_null=True, default=None, min_value=0, max_value=255,
        help_text="the exit code of the plan's `verify`, where it names one",
    )  # fmt: skip


class Fail(Held):
    error = Text(max_length=10_000, initial="The linter is not installed.")
    retry = serializers.BooleanField(default=True)


class ClaimSorties(ApiView):
    @endpoint("sorties.claim", body=Claim, answer=shapes.ClaimAnswer, secret=True)
    def post(self, request: Request, *, given: Given) -> dict[str, Any]:
        """Take the most urgent sorties of the agent's type, each with its lease token."""
        agent = mine(actor(request), given["agent"])
        leases = external_agents.claim(agent=agent, want=given["count"])
        return {
            "leases": [
                {
                    "token": one.token,
                    "sortie": ids.encode(ids.SORTIE, one.sortie),
                    "mission": ids.encode(ids.MISSION, one.mission),
                    "key": one.key,
                    "attempt": one.attempt,
                    "lease_s": one.lease_s,
                    "work": one.work,
                }
                for one in leases
            ]
        }


class Heartbeat(ApiView):
    @endpoint("sorties.fly", body=Held, answer=shapes.RenewedAnswer)
    def post(self, request: Request, ref: str, *, given: Given) -> dict[str, Any]:
        """Extend the lease; the answer says whether somebody wants the work stopped. 409 where it is lost. Where an agent of
        the fleet flies the sortie, it extends the lease itself."""
        token = shown(actor(request), given, ref)
        renewed = external_agents.keep(token=token)
        return {
            "held": [ref] if token in renewed.held else [],
            "cancelled": [ref] if token in renewed.cancelled else [],
        }


class ReportProgress(ApiView):
    @endpoint("sorties.fly", body=Report, answer=None, status=204)
    def post(self, request: Request, ref: str, *, given: Given) -> None:
        """How far it is, what is being done, and what it printed. Where an agent of the fleet flies the sortie, no `output`:
        what is printed there is kept already."""
        external_agents.progress(
            token=shown(actor(request), given, ref),
            fraction=given.get("fraction"),
            note=given["note"],
            output=given["output"],
        )


class CompleteSortie(ApiView):
    @endpoint("sorties.fly", body=Complete, answer=shapes.StateAnswer)
    def post(self, request: Request, ref: str, *, given: Given) -> dict[str, Any]:
        """The work succeeded. Saying it twice is answered as the first time, but with another result 409. So it is where an
        agent of the fleet flies it, which ends it when its process ends."""
        who = actor(request)
        if any(set(one) - _HARMLESS for one in given["sorties"] if isinstance(one, dict)) and not who.executes:
            raise errors.Forbidden(
                "Sorties that run code are added only by callers with plan.execute.",
                hint="Add prompts, or leave them out.",
            )
        state = external_agents.complete(
            token=shown(who, given, ref), result=given["result"], added=given["sorties"], verified=given["verified"]
        )
        return {"sortie": ref, "state": state}


class FailSortie(ApiView):
    @endpoint("sorties.fly", body=Fail, answer=shapes.FailedAnswer)
    def post(self, request: Request, ref: str, *, given: Given) -> dict[str, Any]:
        """The work failed; it is tried again while tries are left, unless `retry` is false. 409 as for `complete`."""
        state = external_agents.fail(
            token=shown(actor(request), given, ref), error=given["error"], retry=given["retry"]
        )
        return {"sortie": ref, "state": state}


def report_to_mission(*, who: Actor, ref: str, given: Given) -> None:
    """Report on the sortie whose lease token is shown, which must be of this mission."""
    token = who.lease or given.get("token", "")
    sortie = Sortie.objects.filter(id=_sortie(token)).first() if token else None
    if sortie is None or ids.encode(ids.MISSION, sortie.mission_id) != ref:
        raise errors.NotFound("There is no such lease in this mission.", hint="Show the token that the claim answered.")
    external_agents.progress(token=token, fraction=given.get("fraction"), note=given["note"], output=given["output"])


_HARMLESS = {
    "name", "agent", "prompt", "needs", "before", "retry", "timeout", "silence", "alert_silence", "priority",
    "allow_failure", "if", "run_at", "concurrency", "matrix", "outputs", "description",
}  # fmt: skip


def mine(who: Actor, ref: str) -> Any:
    """The id of an agent from outside that the caller registered; an admin's may be anybody's."""
    return external_agents.registered(
        agent=ids.decode(ids.AGENT, ref), by=None if who.role == Role.ADMIN else who.user
    ).id


def shown(who: Actor, given: Given, ref: str) -> str:
    """The lease token of a request, which must be of this sortie."""
    token = who.lease or given.get("token", "")
    if not token:
        raise errors.Invalid("Which lease?", hint="Send its token as the bearer token, or as `token`.")
    if _sortie(token) != ids.decode(ids.SORTIE, ref):
        raise errors.NotFound(f"This is no lease of {ref}.", hint="Show the token that the claim answered.")
    return str(token)


def _sortie(token: str) -> Any:
    return ids.decode(ids.SORTIE, token.partition(".")[0])
