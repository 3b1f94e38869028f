"""Missions, sorties, and what their attempts produced."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import ExpressionWrapper, Q
from django.db.models.functions import Now
from django.db.models.lookups import Exact

from fleet import ids, values
from missions.states import FINAL_MISSION_STATES, FINAL_SORTIE_STATES, MissionState, SortieState


def _iff(condition: Q, other: Q) -> Exact:
    """Both or neither. As one comparison, because Postgres parses the constraints of a table for each statement."""
    return Exact(*(ExpressionWrapper(side, output_field=models.BooleanField()) for side in (condition, other)))


class Mission(models.Model):
    """An objective, launched from a plan: a graph of sorties."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    name = models.CharField(max_length=200)
    objective = models.TextField(blank=True)
    state = models.CharField(max_length=12, choices=MissionState)
    priority = models.SmallIntegerField(default=0)
    stop_on_failure = models.BooleanField(default=False)
    max_running = models.PositiveIntegerField(default=0)  # limit of its queued and running sorties; 0: none
    inputs = models.JSONField(default=dict, encoder=values.Encoder)
    # The plan's defaults, which also apply to sorties added at run time.
    defaults = models.JSONField(default=dict, encoder=values.Encoder)
    # Its plan's policy for checkpoints: every_s, sorties, at and on; settings apply to what is missing.
    checkpoints = models.JSONField(default=dict, db_default={})
    folder = models.TextField(blank=True)  # the folder that relative `cwd`s and commands start from
    # Paths that its sorties may read, checked at the launch.
    readable = models.JSONField(default=list, db_default=[])
    plan = models.TextField(blank=True)  # its text, as launched
    can_execute = models.BooleanField(default=True, db_default=True)  # whether sorties that its agents add may run code
    template = models.CharField(max_length=60, blank=True, default="", db_default="")  # that it was launched from
    # What it was forked or imported from.
    origin = models.CharField(max_length=300, blank=True, default="", db_default="")
    # The schedule that launched it, if any.
    schedule = models.ForeignKey(
        "missions.Schedule", null=True, blank=True, on_delete=models.SET_NULL, db_constraint=False, db_index=False
    )
    reason = models.CharField(max_length=500, blank=True)  # why it is paused, cancelled or failed
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, db_index=False)
    # A team that may also see it.
    team = models.ForeignKey("auth.Group", null=True, blank=True, on_delete=models.SET_NULL, db_index=False)
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state"], name="mission_live", condition=~Q(state__in=FINAL_MISSION_STATES)),
            models.Index(fields=["state", "id"], name="mission_ended", condition=Q(state__in=FINAL_MISSION_STATES)),
            models.Index(fields=["created_by", "id"], name="mission_by_owner"),
            models.Index(fields=["team", "id"], name="mission_by_team", condition=Q(team__isnull=False)),
            models.Index(fields=["schedule", "id"], name="mission_by_schedule", condition=Q(schedule__isnull=False)),
            models.Index(
                fields=["schedule"],
                name="mission_live_of_schedule",
                condition=Q(schedule__isnull=False) & ~Q(state__in=FINAL_MISSION_STATES),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="mission_final_iff_finished",
                condition=Q(state__in=FINAL_MISSION_STATES, finished_at__isnull=False)
                | (~Q(state__in=FINAL_MISSION_STATES) & Q(finished_at__isnull=True)),
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.ref})"

    @property
    def ref(self) -> str:
        return ids.encode(ids.MISSION, self.id)


class Template(models.Model):
    """A plan with parameters, which operators offer to every user who may launch missions.

    Launching it does not require `plan.execute`.
    """

    name = models.SlugField(primary_key=True, max_length=60)
    description = models.CharField(max_length=300, blank=True)
    text = models.TextField(verbose_name="plan", help_text="YAML or JSON, as described in docs/plan.md.")
    folder = models.CharField(
        max_length=500, blank=True, help_text="On the agents' hosts. Relative paths in the plan start from it."
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class WaitsOn(models.TextChoices):
    """What ends the wait of a waiting sortie."""

    TIME = "time"  # `wake_at`: a retry's backoff or a `run_at`
    MERGE = "merge"  # its work is committed, and the lane of its branch is taken
    PERSON = "person"  # its change conflicts, and a person has to decide


class Sortie(models.Model):
    """The state of one task of a mission. This is the hot table: narrow, and indexed for live states only.

    Its `Brief` says what to do; its `Attempt`s record what happened.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    mission = models.ForeignKey(Mission, on_delete=models.CASCADE, related_name="sorties", db_index=False)
    key = models.CharField(max_length=200)
    agent_type = models.ForeignKey("agents.AgentType", on_delete=models.PROTECT, db_index=False)
    state = models.CharField(max_length=10, choices=SortieState)
    priority = models.SmallIntegerField(default=0)
    turn = models.BigIntegerField(default=0)  # its place in the fair order between missions, among equal priorities
    gated = models.BooleanField(default=False)  # must be admitted before it is queued: a limit or a time applies
    always = models.BooleanField(default=False)  # `if: always`: runs even if its needs ended badly
    allow_failure = models.BooleanField(default=False)  # its failure is tolerated
    remaining = models.IntegerField(default=0)  # needs that still keep it from starting
    attempt = models.IntegerField(default=0)  # the fencing token: raised by each claim, never lowered
    # The attempt whose outcome counts, if a restore brought back an earlier one than the last; see `accepted_attempt`.
    accepted = models.IntegerField(null=True)
    tries = models.SmallIntegerField(default=0)  # how often a driver started and failed
    max_tries = models.SmallIntegerField(default=1)
    rescues = models.SmallIntegerField(default=0)  # how often it was taken from a lost agent
    cancel_requested = models.BooleanField(default=False)
    concurrency_key = models.CharField(max_length=200, null=True)
    waits_on = models.CharField(max_length=10, choices=WaitsOn, default="", db_default="")  # set while it is waiting
    waits_for = models.CharField(max_length=500, default="")  # why it waits or was skipped, beyond its state
    # While ready: the sortie whose reservation it waits for. While waiting for a merge: the sortie to be merged first.
    blocked_by = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, db_constraint=False, db_index=False, related_name="+"
    )
    agent = models.ForeignKey("agents.Agent", null=True, on_delete=models.SET_NULL, db_constraint=False, db_index=False)
    lease_until = models.DateTimeField(null=True)
    wake_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True)  # when it became ready or was last queued
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    # The sortie that added it at run time. In the plan's order it comes after that one.
    added_by = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, db_constraint=False, db_index=False)

    brief: Brief

    class Meta:
        ordering = ["turn", "id"]
        indexes = [
            models.Index(
                "agent_type",
                models.F("priority").desc(),
                "turn",
                "id",
                name="sortie_queued",
                condition=Q(state="queued"),
            ),
            models.Index(fields=["agent_type"], name="sortie_granted", condition=Q(state="queued", gated=True)),
            models.Index(fields=["agent"], name="sortie_running", condition=Q(state="running")),
            models.Index(fields=["wake_at"], name="sortie_waiting", condition=Q(state="waiting")),
            models.Index(fields=["id"], name="sortie_ready", condition=Q(state="ready")),
            models.Index(fields=["mission"], name="sortie_live", condition=~Q(state__in=FINAL_SORTIE_STATES)),
            models.Index(
                fields=["concurrency_key"],
                name="sortie_holds_key",
                condition=Q(concurrency_key__isnull=False, state__in=["queued", "running"]),
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["mission", "key"], name="sortie_key_once_in_mission"),
            models.CheckConstraint(
                name="sortie_running_iff_leased",
                condition=_iff(Q(state="running"), Q(lease_until__isnull=False)),
            ),
            models.CheckConstraint(
                name="sortie_final_iff_finished",
                condition=_iff(Q(state__in=FINAL_SORTIE_STATES), Q(finished_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="sortie_waiting_has_wake_condition",
                condition=Q(_iff(Q(state="waiting"), ~Q(waits_on="")))
                & (Q(waits_on__in=["", "merge", "person"]) | Q(waits_on="time", wake_at__isnull=False)),
            ),
            models.CheckConstraint(name="sortie_remaining_not_negative", condition=Q(remaining__gte=0)),
            models.CheckConstraint(
                name="sortie_accepted_only_if_final",
                condition=Q(accepted__isnull=True) | Q(finished_at__isnull=False, accepted__lte=models.F("attempt")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} ({self.ref})"

    @property
    def ref(self) -> str:
        return ids.encode(ids.SORTIE, self.id)

    @property
    def accepted_attempt(self) -> int:
        """The attempt whose outcome counts: the last one, unless a restore brought back an earlier one."""
        return self.attempt if self.accepted is None else self.accepted


class Brief(models.Model):
    """The task of a sortie: its part of the plan. Written once, read at each attempt."""

    sortie = models.OneToOneField(Sortie, primary_key=True, on_delete=models.CASCADE, related_name="brief")
    spec = models.JSONField()  # missions.plan.SortieSpec.as_json()
    alert_silence_s = models.FloatField(null=True)  # copied from the spec, which may be large


class Need(models.Model):
    """An edge of the graph: `sortie` starts only after `upstream` has ended."""

    sortie = models.ForeignKey(Sortie, on_delete=models.CASCADE, related_name="needs", db_index=False)
    upstream = models.ForeignKey(Sortie, on_delete=models.CASCADE, related_name="dependents")
    name = models.CharField(max_length=200)  # of the result in the sortie's templates: the key without its matrix part

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sortie", "upstream"], name="need_once")]


class Attempt(models.Model):
    """One execution of a sortie: the agent that ran it, and the outcome."""

    class State(models.TextChoices):
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"
        LOST = "lost"  # its agent was lost; anything that it sends later is refused
        # Its work was good and is committed; a later attempt merges it or resolves its conflict.
        COMMITTED = "committed"
        RETURNED = "returned"  # handed back before its driver started, or stopped by a drain

    id = models.BigAutoField(primary_key=True)
    sortie = models.ForeignKey(Sortie, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    number = models.IntegerField()
    agent = models.ForeignKey("agents.Agent", null=True, on_delete=models.SET_NULL, db_constraint=False, db_index=False)
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    token = models.CharField(max_length=64, null=True)  # SHA-256 of its lease token (missions/attempt_tokens.py)
    result = models.JSONField(null=True)
    error = models.TextField(blank=True, default="", db_default="")
    exit_code = models.IntegerField(null=True)
    cpu_s = models.FloatField(null=True)
    max_rss_bytes = models.BigIntegerField(null=True)
    progress = models.FloatField(null=True)  # 0 to 1, as reported
    note = models.CharField(max_length=200, default="", db_default="")
    last_activity_at = models.DateTimeField(null=True)  # when it last printed or reported, to within output.ACTIVITY_S
    resume = models.JSONField(null=True)  # what its driver needs to continue: a session id, a position

    class Meta:
        ordering = ["sortie", "number"]
        constraints = [models.UniqueConstraint(fields=["sortie", "number"], name="attempt_once")]

    def __str__(self) -> str:
        return f"{ids.encode(ids.SORTIE, self.sortie_id)}/{self.number}"


class Output(models.Model):
    """A piece of an attempt's output."""

    id = models.BigAutoField(primary_key=True)
    sortie = models.ForeignKey(Sortie, on_delete=models.CASCADE, db_index=False)
    attempt = models.IntegerField()
    stream = models.CharField(max_length=6)
    at = models.DateTimeField(db_default=Now())
    text = models.TextField()

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["sortie", "attempt", "id"], name="output_by_attempt")]


class Artifact(models.Model):
    """A file that an attempt produced, stored by its digest."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    sortie = models.ForeignKey(Sortie, on_delete=models.CASCADE, related_name="artifacts")
    attempt = models.IntegerField()
    path = models.CharField(max_length=500)
    digest = models.CharField(max_length=64, db_index=True)  # SHA-256, hexadecimal
    size = models.BigIntegerField()
    media_type = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["path"]
        constraints = [models.UniqueConstraint(fields=["sortie", "attempt", "path"], name="artifact_once")]

    def __str__(self) -> str:
        return self.path

    @property
    def ref(self) -> str:
        return ids.encode(ids.ARTIFACT, self.id)


class ConcurrencyKey(models.Model):
    """How many sorties with this concurrency key may be queued or running at once, over all missions."""

    key = models.CharField(primary_key=True, max_length=200)
    limit = models.PositiveIntegerField(
        help_text="Maximum number of its sorties that are queued or running; 0: no further one may start. A launch may"
        " lower it, and raises it only if no other sorties with the key are unfinished."
    )

    def __str__(self) -> str:
        return f"{self.key} (at most {self.limit})"
