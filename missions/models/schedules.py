"""Schedules: plans that are launched at the times of a cron expression, and the outcome of each time."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from fleet import ids, values


class Overlap(models.TextChoices):
    """What happens to a tick while an earlier mission of the schedule has not ended."""

    SKIP = "skip"  # nothing is launched
    QUEUE = "queue"  # it waits until that mission has ended
    ALLOW = "allow"  # it is launched anyway
    CANCEL = "cancel"  # that mission is cancelled; the tick waits until it has ended


class CatchUp(models.TextChoices):
    """What happens to ticks at which nothing could be launched, because no control loop ran."""

    ONCE = "once"  # the newest one is launched, late
    SKIP = "skip"  # none is launched
    ALL = "all"  # all are launched, up to FLEET_SCHEDULE_CATCH_UP


class Schedule(models.Model):
    """A plan or a template that is launched at the times of a cron expression, with the permissions of its owner."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    name = models.CharField(max_length=60)
    cron = models.CharField(max_length=100)
    timezone = models.CharField(max_length=60)
    overlap = models.CharField(max_length=10, choices=Overlap, default=Overlap.SKIP)
    catch_up = models.CharField(max_length=10, choices=CatchUp, default=CatchUp.ONCE)
    deadline_s = models.FloatField(default=0)  # a tick that is later than this is not launched; 0: no limit
    # What is launched, as in `Mission`: a text, or the name of a template, whose text is read at each launch.
    plan = models.TextField(blank=True)
    template = models.CharField(max_length=60, blank=True)
    params = models.JSONField(default=dict, encoder=values.Encoder)  # may refer to the tick: {{ schedule.date }}
    folder = models.TextField(blank=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, db_index=False)
    operator = models.BooleanField(default=False)  # created by the host's operator, with whose permissions it runs
    team = models.ForeignKey("auth.Group", null=True, blank=True, on_delete=models.SET_NULL, db_index=False)
    paused = models.BooleanField(default=False)
    reason = models.CharField(max_length=500, blank=True)  # why it is paused
    next_at = models.DateTimeField(null=True)  # the next tick; null: it is paused, or there is none within 50 years
    lease_until = models.DateTimeField(null=True)  # a control loop has claimed the next tick until then
    revision = models.IntegerField(default=1)  # increases with each change by a user
    runs = models.BigIntegerField(default=0)
    skips = models.BigIntegerField(default=0)  # includes missed ticks
    failures = models.BigIntegerField(default=0)  # launches that failed, not missions
    failures_in_a_row = models.IntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    changed_at = models.DateTimeField(db_default=Now())  # by a user

    class Meta:
        ordering = ["name", "id"]
        indexes = [
            models.Index(fields=["next_at"], name="schedule_next", condition=Q(next_at__isnull=False)),
            models.Index(fields=["team"], name="schedule_by_team", condition=Q(team__isnull=False)),
        ]
        constraints = [
            # Two users may choose the same name, or a name would reveal the schedules of others.
            models.UniqueConstraint(fields=["owner", "name"], name="schedule_name_once_for_owner"),
            models.UniqueConstraint(
                fields=["name"], condition=Q(operator=True), name="schedule_name_once_for_operator"
            ),
            models.CheckConstraint(
                name="schedule_runs_a_plan_or_a_template",
                condition=(Q(template="") & ~Q(plan="")) | (Q(plan="") & ~Q(template="")),
            ),
            models.CheckConstraint(
                name="schedule_paused_has_no_next_tick", condition=Q(paused=False) | Q(next_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.ref})"

    @property
    def ref(self) -> str:
        return ids.encode(ids.SCHEDULE, self.id)


class Tick(models.Model):
    """The outcome of one scheduled time. The unique constraint ensures that it is launched only once."""

    class Outcome(models.TextChoices):
        WAITING = "waiting"  # for an earlier mission to end
        LAUNCHED = "launched"
        SKIPPED = "skipped"  # by its policy; `reason` says which
        FAILED = "failed"  # the launch was refused; `reason` says why

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="ticks", db_index=False)
    at = models.DateTimeField()  # the scheduled time, or the time of the request
    requested = models.BooleanField(default=False)  # by `run`
    outcome = models.CharField(max_length=10, choices=Outcome)
    reason = models.CharField(max_length=500, blank=True)
    missed = models.IntegerField(default=0)  # the number of earlier missed ticks that it covers, which have no rows
    # The id stays after a cleanup has removed the mission.
    mission = models.ForeignKey(
        "missions.Mission",
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    decided_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-at"]
        constraints = [models.UniqueConstraint(fields=["schedule", "at"], name="tick_once")]
        indexes = [
            models.Index(fields=["schedule", "at"], name="tick_waiting", condition=Q(outcome="waiting")),
            models.Index(F("schedule"), F("id").desc(), name="tick_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} ({self.outcome})"
