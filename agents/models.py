"""What kinds of agents there are, the hosts they live on, and the processes themselves."""

from __future__ import annotations

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now

from fleet import ids


class AgentType(models.Model):
    """A kind of agent. Its sorties are hinted on the Celery queue `agent.<name>`."""

    name = models.CharField(
        primary_key=True,
        max_length=40,
        validators=[RegexValidator(r"^[a-z][a-z0-9_-]*$", "Small letters, digits, - and _; a letter first.")],
    )
    description = models.CharField(max_length=200, blank=True)
    prompt_argv = models.JSONField(
        default=list,
        blank=True,
        help_text="A command and its arguments as a JSON list, which gets a sortie's prompt on standard input. "
        "Empty: this type takes no prompts.",
    )
    concurrency = models.PositiveSmallIntegerField(
        default=2, validators=[MinValueValidator(1)], help_text="Sorties that one agent flies at once."
    )
    agents = models.PositiveSmallIntegerField(default=1, help_text="Agents of this type on each node.")
    env_allow = models.JSONField(
        default=list, blank=True, help_text="Names of the host's environment variables that its drivers may see."
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def queue(self) -> str:
        return f"agent.{self.name}"


class Node(models.Model):
    """One host's supervisor of agents."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    name = models.CharField(max_length=200, unique=True)
    pid = models.PositiveIntegerField()
    start_time = models.FloatField(help_text="When the process began, as the kernel tells; pids are reused.")
    up = models.BooleanField(default=True)
    heartbeat_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name


class Agent(models.Model):
    """One worker process of a type. Its states and arrows: agents/states.py."""

    class State(models.TextChoices):
        SPAWNING = "spawning"  # the node has started the process, which has not reported yet
        IDLE = "idle"  # it reports and flies nothing
        BUSY = "busy"  # it flies at least one sortie
        DRAINING = "draining"  # it finishes what it flies and takes nothing more
        TERMINATED = "terminated"  # it ended as asked
        LOST = "lost"  # its heartbeat stopped, or its parent saw it die
        FAILED = "failed"  # it never came up, or was given up after too many restarts

    LIVE = (State.SPAWNING, State.IDLE, State.BUSY, State.DRAINING)

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    type = models.ForeignKey(AgentType, on_delete=models.PROTECT)
    node = models.ForeignKey(Node, on_delete=models.SET_NULL, null=True)
    pid = models.PositiveIntegerField(null=True)
    start_time = models.FloatField(null=True)
    state = models.CharField(max_length=12, choices=State, default=State.SPAWNING)
    reason = models.CharField(max_length=300, blank=True)
    spawned_at = models.DateTimeField(db_default=Now())
    heartbeat_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["type"],
                name="agent_live",
                condition=models.Q(state__in=["spawning", "idle", "busy", "draining"]),
            )
        ]
        constraints = [
            models.CheckConstraint(
                name="agent_ended_iff_not_live",
                condition=models.Q(state__in=["terminated", "lost", "failed"], ended_at__isnull=False)
                | models.Q(state__in=["spawning", "idle", "busy", "draining"], ended_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return self.ref

    @property
    def ref(self) -> str:
        return ids.encode(ids.AGENT, self.id)
