"""Agent types, the nodes that run agents, the agents themselves, and their samples and logs."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now

from fleet import ids


class AgentType(models.Model):
    """A kind of agent. Its sorties are hinted on the Celery queue `agent.<name>`."""

    name = models.CharField(
        primary_key=True,
        max_length=40,
        validators=[
            RegexValidator(r"^[a-z][a-z0-9_-]*$", "Lowercase letters, digits, - and _, starting with a letter.")
        ],
    )
    description = models.CharField(max_length=200, blank=True)
    prompt_argv = models.JSONField(
        default=list,
        blank=True,
        help_text="A command and its arguments as a JSON list, which gets a sortie's prompt on standard input. "
        "Empty: this type takes no prompts, unless it is for external agents only.",
    )
    concurrency = models.PositiveSmallIntegerField(
        default=2, validators=[MinValueValidator(1)], help_text="Sorties that one agent runs at once."
    )
    agents = models.PositiveSmallIntegerField(
        default=1, help_text="Agents of this type that each node keeps running, even without work."
    )
    max_agents = models.PositiveSmallIntegerField(
        default=0,
        help_text="Maximum number of agents of this type in the whole fleet; 0: limited only by what the nodes allow.",
    )
    max_running = models.PositiveIntegerField(
        default=0,
        help_text="Maximum number of sorties of this type that run at once in the whole fleet; 0: limited only by its agents' "
        "slots. Sorties that are running are not stopped.",
    )
    autoscale = models.BooleanField(
        default=False,
        help_text="Start more agents while work waits and every slot is in use, and end agents that have been idle for "
        "a while.",
    )
    memory_mb = models.PositiveIntegerField(
        default=0,
        verbose_name="memory (MB)",
        help_text="Limit for all processes of one attempt together; 0: 4 GB, or half of the host's memory if that is less.",
    )
    disk_mb = models.PositiveIntegerField(
        default=0,
        verbose_name="disk (MB)",
        help_text="Limit for the scratch folder and the copy of the repository of one attempt, together; 0: 10 GB.",
    )
    max_duration_s = models.PositiveIntegerField(
        default=0,
        verbose_name="maximum duration (s)",
        help_text="The largest timeout that a plan may set; 0: no limit.",
    )
    alert_silence_s = models.PositiveIntegerField(
        null=True,
        blank=True,
        verbose_name="alert after silence (s)",
        help_text="An attempt without output for this long raises an alert, unless its plan sets another limit; 0: never. "
        "Empty: FLEET_ALERT_SILENCE_S applies.",
    )
    env_allow = models.JSONField(
        default=list, blank=True, help_text="Names of the host's environment variables that are passed to the workload."
    )
    env_secret = models.JSONField(
        default=list,
        blank=True,
        help_text="Names of further variables to pass, whose values are redacted in everything that the workload reports. "
        "Values of the variables above are redacted if their names look like secrets (API_KEY, TOKEN …).",
    )
    readable = models.JSONField(
        default=list,
        blank=True,
        help_text="Absolute paths on the host that the workload may read, and run in, besides its own folders.",
    )
    network = models.BooleanField(default=True, help_text="Whether the workload has access to the network.")
    external = models.BooleanField(
        default=False,
        verbose_name="external agents only",
        help_text="No node starts its agents. They register themselves and take prompts.",
    )
    accepts_external = models.BooleanField(
        default=False,
        db_default=False,
        verbose_name="external agents too",
        help_text="External agents may register for this type, besides the agents that nodes start. They get its work "
        "with its variables.",
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def takes_prompts(self) -> bool:
        return bool(self.prompt_argv) or self.external

    @property
    def open_to_external(self) -> bool:
        """Whether external agents may register for this type and claim its work."""
        return self.external or self.accepts_external

    @property
    def queue(self) -> str:
        return f"agent.{self.name}"


class Node(models.Model):
    """The supervisor of one host's agents, and the load and size of that host."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    name = models.CharField(max_length=200, unique=True)
    boot = models.CharField(
        max_length=36, default="", help_text="The boot id of the host; pids are valid only within one boot."
    )
    pid = models.PositiveIntegerField()
    start_time = models.FloatField(help_text="When the process began, in seconds since boot; pids are reused.")
    up = models.BooleanField(default=True)
    cordoned = models.BooleanField(
        default=False, help_text="It gets no new agents. Its current agents stay until they are drained."
    )
    max_agents = models.PositiveSmallIntegerField(default=16, help_text="Maximum number of agents.")
    types = models.JSONField(
        default=list, blank=True, help_text="The agent types that it serves, by name. Empty: every type."
    )
    cpus = models.PositiveSmallIntegerField(default=1)
    memory_bytes = models.BigIntegerField(default=0)
    load = models.FloatField(default=0.0, help_text="The load average of one minute.")
    memory_free_bytes = models.BigIntegerField(default=0)
    joined_at = models.DateTimeField(db_default=Now())
    heartbeat_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> str:
        return ids.encode(ids.NODE, self.id)

    def serves(self, type: str) -> bool:
        """Whether the node may have agents of this type (FLEET_TYPES)."""
        return not self.types or type in self.types


class Agent(models.Model):
    """One worker process of a type, or an external agent. docs/agents.md has its states and transitions."""

    class State(models.TextChoices):
        SPAWNING = "spawning"  # ordered or started by its node; the process has not reported yet
        IDLE = "idle"  # its heartbeat reports no sortie
        BUSY = "busy"  # its heartbeat reports at least one sortie
        DRAINING = "draining"  # its node passed on an order: it finishes its sorties and claims no more
        TERMINATED = "terminated"  # it ended as ordered, or with its node
        LOST = "lost"  # its heartbeat stopped, or its node noticed that it died
        FAILED = "failed"  # it never came up, or crashed too often in a row

    LIVE = (State.SPAWNING, State.IDLE, State.BUSY, State.DRAINING)

    class Order(models.TextChoices):
        """What the node must do with the agent. A row in `spawning` without a pid is the order to start it."""

        NONE = ""
        DRAIN = "drain"  # exit once all of its sorties have ended, without a time limit
        TERMINATE = "terminate"  # the same, but sorties that have not ended after FLEET_DRAIN_S go back to the queue
        NOW = "now"  # stop its sorties, and exit
        RESTART = "restart"  # terminate, and start a successor in its place

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    type = models.ForeignKey(AgentType, on_delete=models.PROTECT)
    node = models.ForeignKey(Node, on_delete=models.SET_NULL, null=True)
    by = models.ForeignKey(  # who registered an external agent, and may act for it
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, editable=False, db_index=False
    )
    ordinal = models.PositiveSmallIntegerField(
        default=0, help_text="Its number among the agents of its type on its node."
    )
    concurrency = models.PositiveSmallIntegerField(default=1, help_text="Sorties that it runs at once.")
    pid = models.PositiveIntegerField(null=True)
    start_time = models.FloatField(
        null=True, help_text="When the process began, in seconds since boot; pids are reused."
    )
    state = models.CharField(max_length=12, choices=State, default=State.SPAWNING)
    reason = models.CharField(max_length=300, blank=True)
    order = models.CharField(max_length=10, choices=Order, default=Order.NONE, blank=True)
    crashes = models.PositiveSmallIntegerField(
        default=0, help_text="Consecutive crashes of its predecessors with the same ordinal."
    )
    running = models.PositiveSmallIntegerField(default=0, help_text="Running sorties at its last heartbeat.")
    settled = models.BigIntegerField(default=0, help_text="Settled sorties at its last heartbeat.")
    claimed_at = models.DateTimeField(null=True, help_text="When it last took a sortie.")
    spawned_at = models.DateTimeField(db_default=Now())
    heartbeat_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)
    reaped = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="It has ended, and its node has confirmed that no process of its workloads is left.",
    )

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

    @property
    def name(self) -> str:
        """Its name in lists, log files, Flower and `ps`. Its successors have the same name."""
        return f"{self.type_id}-{self.ordinal}@{self.node.name}" if self.node else self.ref


class Sample(models.Model):
    """What an agent and its descendants used, on average over a step of time."""

    id = models.BigAutoField(primary_key=True)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="samples", db_index=False)
    at = models.DateTimeField(db_default=Now())
    step_s = models.PositiveIntegerField(help_text="Length of the step in seconds.")
    cpu = models.FloatField(help_text="CPU cores in use; 1.0 is one fully used core.")
    memory_bytes = models.BigIntegerField(
        help_text="Proportional set size if the kernel reports it, otherwise resident set size."
    )
    processes = models.PositiveIntegerField()

    class Meta:
        ordering = ["agent", "at"]
        indexes = [
            models.Index(fields=["agent", "at"], name="sample_by_agent"),
            # To find samples to thin and samples to delete without scanning the rest (agents/node/sampling.py).
            models.Index(fields=["at"], name="sample_fine", condition=models.Q(step_s__lt=600)),
            models.Index(fields=["at"], name="sample_coarse", condition=models.Q(step_s__gte=600)),
        ]

    def __str__(self) -> str:
        return f"{self.agent_id} {self.at}"


class LogPiece(models.Model):
    """A piece of the log of an agent's own process, shipped by its node."""

    id = models.BigAutoField(primary_key=True)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="log", db_index=False)
    at = models.DateTimeField(db_default=Now())
    text = models.TextField()

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["agent", "id"], name="log_by_agent")]

    def __str__(self) -> str:
        return f"{self.agent_id} {self.id}"
