"""Endpoints of external agents: claim sorties, renew leases, report, complete, fail and sign off.

Workloads of the fleet's own agents report here too.

A request about an attempt needs its lease token, from the response to the claim or from FLEET_TOKEN: as the bearer
token, or as `token` in the body if the bearer is a machine key.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import StreamingHttpResponse
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.request import Request

from agents.confinement.attempt_limits import RESUME_BYTES
from fleet import errors, ids
from fleet.access.actor import Actor
from fleet.access.models import Role
from fleet.api.endpoints import Validated, endpoint
from fleet.api.openapi.examples import file_response
from fleet.api.serializers import Id, Json, Strict, Text
from fleet.api.views import MAX_BODY_BYTES, ApiView, Costly, IgnoreAccept, actor_of
from fleet.limits import counting
from fleet.limits.counting import RemainingQuota
from fleet.web import shared_counters
from missions.api import responses
from missions.models import Sortie
from missions.operations import external_agents, permissions
from missions.operations.external_agents import attempt_auth, ending
from missions.operations.workspaces import bundling
from missions.queries import visibility

MAX_TOKEN = 200  # characters
MAX_BUNDLES = 2  # downloads at once per caller: each runs a git process, which packs the whole history
CODE_FREE_KEYS = {  # keys of a sortie that run no code
    "name", "agent", "prompt", "needs", "before", "retry", "timeout", "silence", "alert_silence", "priority",
    "allow_failure", "if", "run_at", "concurrency", "matrix", "outputs", "description",
}  # fmt: skip


class ClaimBody(Strict):
    agent = Id(ids.AGENT, max_length=40, help_text="an agent that the caller registered")
    count = serializers.IntegerField(
        default=1, min_value=1, max_value=external_agents.MAX_CLAIM,
        help_text="the maximum; 409 if the agent already holds as many as its `concurrency`",
    )  # fmt: skip


class LeaseBody(Strict):
    token = serializers.CharField(
        max_length=MAX_TOKEN,
        required=False,
        initial=responses.TOKEN,
        help_text="the lease token, unless it is the bearer token",
    )


class ReportBody(LeaseBody):
    fraction = serializers.FloatField(required=False, min_value=0, max_value=1, initial=0.4)
    note = Text(max_length=200, required=False, default="", allow_blank=True, initial="4 of 10 files")
    output = serializers.CharField(
        required=False, default="", allow_blank=True, trim_whitespace=False, max_length=100_000,
        initial="fixed a.py\n", help_text="printed since the last report",
    )  # fmt: skip
    resume = Json(
        max_bytes=RESUME_BYTES, required=False, allow_null=True, initial={"session": "ses_1", "files_done": 4},
        help_text="passed to the next attempt, which continues from here; null clears it, omitting it keeps the last value",
    )  # fmt: skip


class Complete(LeaseBody):
    result = Json(
        max_bytes=settings.FLEET_RESULT_BYTES, required=False, allow_null=True, default=None, initial={"findings": 3}
    )
    sorties = serializers.ListField(
        child=Json(max_bytes=100_000), required=False, default=list, max_length=settings.FLEET_MAX_ADDED,
        help_text="sorties to add, in the format of FLEET_SORTIES; those that run code require plan.execute",
    )  # fmt: skip
    verified = serializers.IntegerField(
        required=False, allow_null=True, default=None, min_value=0, max_value=255,
        help_text="the exit code of the plan's `verify` command, if it has one",
    )  # fmt: skip
    patch = serializers.CharField(
        required=False, allow_blank=True, trim_whitespace=False, max_length=ending.PATCH_BYTES,
        help_text="of a sortie with a workspace: the output of `git diff --binary BASE`; it must be UTF-8",
    )  # fmt: skip
    base = serializers.RegexField(
        r"^[0-9a-f]{40}([0-9a-f]{24})?$", required=False, initial="9fceb02d0ae598e95dc970b74767f19372d61af8",
        help_text="the commit that the patch applies to: `work.workspace.base` of the claim",
    )  # fmt: skip


class Fail(LeaseBody):
    error = Text(max_length=10_000, initial="The linter is not installed.")
    retry = serializers.BooleanField(default=True)


class LeaseToken(serializers.CharField):
    """A lease token. Any string is valid: a bad token is left out of `renewed`, and does not affect the other leases."""

    def run_validation(self, data: Any = empty) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class HeartbeatBody(Strict):
    tokens = serializers.ListField(
        child=LeaseToken(allow_blank=True),
        default=list,
        max_length=1_000,
        initial=[responses.TOKEN],
        help_text="leases to renew; invalid tokens are not in `renewed`",
    )


class AgentReport(ReportBody):
    sortie = Id(ids.SORTIE, max_length=40)


class ClaimSorties(ApiView):
    @endpoint("sorties.claim", body=ClaimBody, response=responses.ClaimResponse, secret=True)
    def post(self, request: Request, *, body: Validated) -> dict[str, Any]:
        """Claim the most urgent sorties of the agent's type. Each comes with its lease token."""
        agent = own_agent(actor_of(request), body["agent"])
        leases = external_agents.claim(agent=agent, count=body["count"])
        return {
            "leases": [
                {
                    "token": lease.token,
                    "sortie": ids.encode(ids.SORTIE, lease.sortie),
                    "mission": ids.encode(ids.MISSION, lease.mission),
                    "key": lease.key,
                    "attempt": lease.attempt,
                    "lease_s": lease.lease_s,
                    "work": lease.work,
                }
                for lease in leases
            ]
        }


class SortieHeartbeat(ApiView):
    @endpoint("sorties.fly", body=LeaseBody, response=responses.HeartbeatResponse)
    def post(self, request: Request, ref: str, *, body: Validated) -> dict[str, Any]:
        """Renew the lease. The response says whether the work has been cancelled. 409: the lease is lost. The fleet's
        own agents renew the leases of their sorties themselves."""
        token = lease_token(actor_of(request), body, ref)
        heartbeat = external_agents.renew_lease(token=token)
        return {
            "renewed": [ref] if token in heartbeat.renewed else [],
            "cancelled": [ref] if token in heartbeat.cancelled else [],
        }


class ReportProgress(ApiView):
    @endpoint("sorties.fly", body=ReportBody, response=None, status=204)
    def post(self, request: Request, ref: str, *, body: Validated) -> None:
        """Report progress, a note, output, and a value to resume from. Workloads of the fleet's own agents may not send
        `output` or `resume`: the fleet captures what they print and what they write to FLEET_RESUME."""
        report(token=lease_token(actor_of(request), body, ref), body=body)


class CompleteSortie(Costly):
    costly_methods = ()  # but see `is_costly`
    large_body_methods = ("POST",)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse a workload of the fleet's own agents before its body is parsed: it may not complete its sortie."""
        super().initial(request, *args, **kwargs)
        if (lease := actor_of(request).lease) and self.is_costly(request):
            attempt_auth.authenticate_to_end(lease, "succeeded")

    def is_costly(self, request: Request) -> bool:
        return len(request._request.body) > MAX_BODY_BYTES

    @endpoint("sorties.fly", body=Complete, response=responses.StateResponse)
    def post(self, request: Request, ref: str, *, body: Validated) -> dict[str, Any]:
        """Complete the sortie. Repeating the request returns the first response. 409 if the result differs from the
        first one, or if one of the fleet's own agents runs the sortie: then the exit of its process completes it."""
        actor = actor_of(request)
        adds_code = any(set(added) - CODE_FREE_KEYS for added in body["sorties"] if isinstance(added, dict))
        if adds_code and not actor.can_execute:
            raise errors.Forbidden(
                "Adding sorties that run code requires plan.execute.",
                hint="Add prompts only, or ask an admin for the permission.",
            )
        if ("patch" in body) != ("base" in body):
            raise errors.Invalid("Send `patch` and `base` together.", pointer="/base")
        state = external_agents.complete(
            token=lease_token(actor, body, ref),
            result=body["result"],
            added=body["sorties"],
            verified=body["verified"],
            patch=ending.SubmittedPatch(base=body["base"], text=body["patch"]) if "patch" in body else None,
            edits_templates=actor.user is not None
            and permissions.may_edit_templates(actor.user, can_execute=actor.can_execute),
        )
        return {"sortie": ref, "state": state}


class FailSortie(ApiView):
    @endpoint("sorties.fly", body=Fail, response=responses.FailedResponse)
    def post(self, request: Request, ref: str, *, body: Validated) -> dict[str, Any]:
        """Fail the sortie. It is retried while attempts are left, unless `retry` is false. 409 as for `complete`."""
        state = external_agents.fail(
            token=lease_token(actor_of(request), body, ref), error=body["error"], retry=body["retry"]
        )
        return {"sortie": ref, "state": state}


class _Download:
    """The chunks of a bundle. Until it is closed it counts as one download of its caller, across all processes."""

    def __init__(self, pieces: Iterator[bytes], *, caller: str) -> None:
        self._pieces, self._counter = pieces, f"bundles:{caller}"
        shared_counters.site.add(self._counter)
        if shared_counters.site.count(self._counter) > MAX_BUNDLES:
            self.close()
            raise counting.TooManyRequests(RemainingQuota(limit=MAX_BUNDLES, remaining=0, reset_s=1, refused=True))

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        if self._counter:
            shared_counters.site.add(self._counter, -1)
            self._counter = ""
        if isinstance(self._pieces, Generator):
            with suppress(ValueError):  # it is being read in another thread, which ends now
                self._pieces.close()


class RepositoryBundle(Costly):
    costly_methods = ("GET", "HEAD")
    content_negotiation_class = IgnoreAccept

    @endpoint("sorties.read", response=file_response("# v2 git bundle"))
    def get(self, request: Request, ref: str) -> StreamingHttpResponse:
        """Download the mission's branch with its history, as a git bundle: `git clone -b BRANCH FILE FOLDER`. A
        caller may download two at once, and gets 429 for more."""
        actor = actor_of(request)
        sortie = visibility.sortie(actor, ref)
        pieces = bundling.bundle(mission=sortie.mission)
        caller = f"user {actor.user.pk}" if actor.user else f"mission {sortie.mission_id}"
        return StreamingHttpResponse(
            () if request.method == "HEAD" else _Download(pieces, caller=caller),
            content_type="application/octet-stream",
            headers={
                "Content-Disposition": f'attachment; filename="{ref}.bundle"',
                "Cache-Control": "private, no-store",
            },
        )


class AgentHeartbeat(ApiView):
    @endpoint("agents.beat", body=HeartbeatBody, response=responses.HeartbeatResponse)
    def post(self, request: Request, ref: str, *, body: Validated) -> dict[str, Any]:
        """Report that the agent is alive, and renew its leases. A lease that is not in `renewed` is lost. Stop the work of
        those in `cancelled`."""
        heartbeat = external_agents.heartbeat(agent=own_agent(actor_of(request), ref), tokens=body["tokens"])
        return {
            "renewed": sorted(token.partition(".")[0] for token in heartbeat.renewed),
            "cancelled": sorted(token.partition(".")[0] for token in heartbeat.cancelled),
        }


class AgentLeave(ApiView):
    @endpoint("agents.beat", response=None, status=204)
    def post(self, request: Request, ref: str) -> None:
        """Deregister the agent. Its sorties are queued again at once, and it is not considered lost."""
        external_agents.leave(agent=own_agent(actor_of(request), ref))


class AgentProgress(ApiView):
    @endpoint("agents.beat", body=AgentReport, response=None, status=204)
    def post(self, request: Request, ref: str, *, body: Validated) -> None:
        """Report on one of the agent's sorties."""
        own_agent(actor_of(request), ref)
        token = body.get("token", "")
        if not token or token.partition(".")[0] != body["sortie"]:
            raise errors.Invalid(
                "The lease token does not belong to that sortie.", hint="Send the token from the response to the claim."
            )
        report(token=token, body=body)


def report_to_mission(*, actor: Actor, ref: str, body: Validated) -> None:
    """Report on the sortie of the lease token, which must belong to this mission."""
    token = actor.lease or body.get("token", "")
    sortie = Sortie.objects.filter(id=_sortie_id(token)).first() if token else None
    if sortie is None or ids.encode(ids.MISSION, sortie.mission_id) != ref:
        raise errors.NotFound(
            "The lease token does not belong to this mission.", hint="Send the token from the response to the claim."
        )
    report(token=token, body=body)


def report(*, token: str, body: Validated) -> None:
    """Record a report, whose body has been validated as a `ReportBody`."""
    external_agents.progress(
        token=token,
        fraction=body.get("fraction"),
        note=body["note"],
        output=body["output"],
        resume=body.get("resume", external_agents.UNCHANGED),
    )


def own_agent(actor: Actor, ref: str) -> UUID:
    """The id of an external agent that the caller registered. Admins may use any."""
    return external_agents.owned_agent(
        agent=ids.decode(ids.AGENT, ref), by=None if actor.role == Role.ADMIN else actor.user
    ).id


def lease_token(actor: Actor, body: Validated, ref: str) -> str:
    """The lease token of a request, which must belong to this sortie."""
    token = actor.lease or body.get("token", "")
    if not token:
        raise errors.Invalid("The request has no lease token.", hint="Send it as the bearer token, or as `token`.")
    if _sortie_id(token) != ids.decode(ids.SORTIE, ref):
        raise errors.NotFound(
            f"The lease token does not belong to {ref}.", hint="Send the token from the response to the claim."
        )
    return str(token)


def _sortie_id(token: str) -> UUID:
    return ids.decode(ids.SORTIE, token.partition(".")[0])
