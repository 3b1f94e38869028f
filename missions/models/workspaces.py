"""The tables of workspaces: a mission's repository and changes, the lanes of branches, reservations and conflicts.

`missions/workspaces` reads and writes them; docs/workspaces.md explains the terms.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from fleet import ids
from missions.models.missions import Mission, Sortie


class Workspace(models.Model):
    """The repository that a mission's sorties change, and the branch that receives their work."""

    mission = models.OneToOneField(Mission, primary_key=True, on_delete=models.CASCADE, related_name="workspace")
    repository = models.CharField(max_length=1000)  # an absolute path, or an https or ssh address
    base = models.CharField(max_length=250)  # the name of the branch, tag or commit that it started from
    base_commit = models.CharField(max_length=64)
    branch = models.CharField(max_length=200)
    setup = models.JSONField(null=True)  # a command: a text for the shell, or a list
    verify = models.JSONField(null=True)
    conflicts = models.CharField(max_length=10)  # rework, manual or fail
    reworks = models.PositiveSmallIntegerField()
    # What a restore still has to do in git (missions/workspaces/moving.py): move the branch to the commit `restore_to`,
    # and keep what it had under `restore_ref`. Empty: nothing.
    restore_to = models.CharField(max_length=64, default="")
    restore_ref = models.CharField(max_length=200, default="")
    discarded_at = models.DateTimeField(null=True)  # from then on its branch and commits may be missing from the mirror

    def __str__(self) -> str:
        return f"{self.branch} of {self.repository}"


class Lane(models.Model):
    """The right to move a branch: one sortie at a time has it.

    It is taken while `sortie` runs as `attempt`; or, if `attempt` is null, while `sortie` is queued to be merged next.
    Nothing has to release it. Git has the same content in refs/fleet/lanes/BRANCH (missions/workspaces/lanes.py).
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    repository = models.CharField(max_length=1000)
    branch = models.CharField(max_length=200)
    sortie = models.ForeignKey(Sortie, null=True, on_delete=models.SET_NULL, db_constraint=False, related_name="+")
    attempt = models.IntegerField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["repository", "branch"], name="lane_once")]

    def __str__(self) -> str:
        return f"{self.branch} of {self.repository}"


class Change(models.Model):
    """What an attempt changed in its copy of the repository, as one commit; and the outcome that follows its merge."""

    class State(models.TextChoices):
        COMMITTED = "committed"  # good; to be merged
        LANDING = "landing"  # `landed` is about to become the tip of the branch, or has just become it
        LANDED = "landed"
        CONFLICTED = "conflicted"  # good, but it conflicts with the branch
        KEPT = "kept"  # from an unsuccessful attempt, or dropped; only kept for inspection

    TO_MERGE = (State.COMMITTED, State.LANDING)
    UNMERGED = (*TO_MERGE, State.CONFLICTED)

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    sortie = models.ForeignKey(Sortie, on_delete=models.CASCADE, related_name="changes", db_index=False)
    attempt = models.IntegerField()
    state = models.CharField(max_length=10, choices=State)
    base = models.CharField(max_length=64)  # the tip of the branch that the attempt started from
    commit = models.CharField(max_length=64)  # its work; equal to `base` if it changed nothing
    landed = models.CharField(max_length=64, default="")  # the commit on the branch
    onto = models.CharField(max_length=64, default="")  # the tip that `landed` follows
    no_change = models.CharField(max_length=500, default="")  # why nothing had to be changed, as the work declared
    files = models.JSONField(default=list)  # paths that it changed, at most 1,000
    number_of_files = models.IntegerField(default=0)
    lines_added = models.IntegerField(default=0)
    lines_removed = models.IntegerField(default=0)
    # The outcome of the attempt, which becomes that of the attempt that merges it.
    added_sorties = models.JSONField(default=list)  # missions.plan.SortieSpec.as_json()
    result = models.TextField(null=True)  # JSON text
    exit_code = models.IntegerField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["sortie", "attempt"]
        constraints = [models.UniqueConstraint(fields=["sortie", "attempt"], name="change_once")]

    def __str__(self) -> str:
        return f"{self.commit[:12]} ({self.state})"


class SavedWork(models.Model):
    """Uncommitted work that a restore has put back. The next attempt starts with it, and its commit deletes it."""

    sortie = models.OneToOneField(Sortie, primary_key=True, on_delete=models.CASCADE, related_name="saved_work")
    base = models.CharField(max_length=64)  # the tip of the branch that its attempt started from
    commit = models.CharField(max_length=64)  # the files as a commit on `base`, which is on no branch

    def __str__(self) -> str:
        return self.commit[:12]


class Patch(models.Model):
    """What an external agent has changed. An attempt of one of the fleet's own agents turns it into a change."""

    sortie = models.OneToOneField(Sortie, primary_key=True, on_delete=models.CASCADE, related_name="patch")
    base = models.CharField(max_length=64)  # the commit that it applies to
    data = models.BinaryField()  # as `git diff --binary` prints it
    # The outcome of the attempt that sent it, which becomes that of the attempt that merges it.
    result = models.TextField()  # JSON text
    added_sorties = models.JSONField(default=list)  # missions.plan.SortieSpec.as_json()

    def __str__(self) -> str:
        return f"{len(self.data):,} bytes on {self.base[:12]}"


class VerifiedTree(models.Model):
    """A tree that passed a command of its plan, so that the same tree is not checked twice."""

    mission = models.ForeignKey(Mission, on_delete=models.CASCADE, related_name="+", db_index=False)
    tree = models.CharField(max_length=64)
    command = models.CharField(max_length=64)  # SHA-256 of the command and its environment

    class Meta:
        constraints = [models.UniqueConstraint(fields=["mission", "tree", "command"], name="verified_tree_once")]


class Reservation(models.Model):
    """A pattern of files that a sortie changes, or reads while none may change them: from its plan, or requested.

    Whether it is in force follows from its sortie and `attempt`; nothing has to clear it.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    sortie = models.ForeignKey(Sortie, on_delete=models.CASCADE, related_name="reservations", db_index=False)
    attempt = models.IntegerField(null=True)  # the attempt that requested it; null: the plan
    repository = models.CharField(max_length=1000)
    branch = models.CharField(max_length=200)
    pattern = models.CharField(max_length=500)
    # Its folders before the first wildcard, for the index. "" is always correct, but slower.
    folder = models.CharField(max_length=500, default="", db_default="", db_collation="C")
    shared = models.BooleanField(default=False)  # `reads`: others may share it, but not change the files
    until = models.DateTimeField(null=True)  # the end of a requested one
    released_at = models.DateTimeField(null=True)  # by a person, or by the attempt that requested it
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["created_at", "id"]
        indexes = [
            models.Index(fields=["sortie"], name="reservation_by_sortie"),
            models.Index(fields=["repository", "branch", "folder"], name="reservation_by_folder"),
        ]

    def __str__(self) -> str:
        return self.pattern

    @property
    def ref(self) -> str:
        return ids.encode(ids.RESERVATION, self.id)


class Conflict(models.Model):
    """A conflict between the changes of sorties, and how it was resolved."""

    class Kind(models.TextChoices):
        PREDICTED = "predicted"  # both touch the same files, and neither needs the other
        RESERVATION = "reservation"  # an attempt requested files that another sortie has reserved
        STRAY = "stray"  # it changed files outside its reservations that another sortie has reserved
        MERGE = "merge"  # both changed the same lines
        VERIFY = "verify"  # they merge, but `verify` fails on the result

    class Outcome(models.TextChoices):
        OPEN = ""
        ORDERED = "ordered"  # one waits for the other
        REFUSED = "refused"  # a request was refused
        REWORK = "rework"  # another attempt resolves it
        MANUAL = "manual"  # a person has to resolve it
        FAILED = "failed"  # its sortie failed
        RESOLVED = "resolved"  # the sortie has landed since, or a person provided a version that merges
        DROPPED = "dropped"  # a person dropped the change

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    sortie = models.ForeignKey(Sortie, on_delete=models.CASCADE, related_name="conflicts", db_index=False)
    attempt = models.IntegerField(null=True)
    kind = models.CharField(max_length=12, choices=Kind)
    others = models.JSONField(default=list)  # keys of the sorties that it conflicts with, as far as they are known
    files = models.JSONField(default=list)  # at most 100 paths
    onto = models.CharField(max_length=64, default="")  # the tip of the branch at that time
    tree = models.CharField(max_length=64, default="")  # merge: the merged tree with conflict markers
    text = models.TextField(blank=True)  # git's messages, or the end of the output of `verify`
    outcome = models.CharField(max_length=10, choices=Outcome, default="", blank=True)
    by = models.CharField(max_length=150, blank=True, default="")  # the person who decided
    created_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["created_at", "id"]
        indexes = [
            models.Index(fields=["sortie", "id"], name="conflict_by_sortie"),
            models.Index(fields=["outcome"], name="conflict_open", condition=Q(outcome__in=["", "manual"])),
        ]

    def __str__(self) -> str:
        return f"{self.kind} ({self.outcome or 'open'})"
