"""Roles of users, their sessions and their machine keys."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from fleet import ids


class Role(models.TextChoices):
    ADMIN = "admin"  # everything
    AGENT = "agent"  # runs sorties as an external agent
    USER = "user"  # owns missions, and sees those of its teams (Django groups)


class Account(models.Model):
    """The role of a user, in addition to Django's own row. It is read at each request."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="account"
    )
    role = models.CharField(max_length=5, choices=Role, default=Role.USER)

    class Meta:
        permissions = [("plan_execute", "May launch plans that run code (plan.execute)")]

    def __str__(self) -> str:
        return f"{self.user}: {self.role}"


class Session(models.Model):
    """One sign-in: a chain of refresh tokens. Only the last of them is valid (RFC 9700, section 4.14.2).

    An access token names its session, and is valid until it expires or the session ends. Using a refresh token twice
    ends the session.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    refresh = models.CharField(max_length=32)  # the id of the one valid refresh token
    began_at = models.DateTimeField(db_default=Now())
    used_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    address = models.GenericIPAddressField(null=True)

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="session_by_expiry")]
        verbose_name = "sign-in session"

    def __str__(self) -> str:
        return f"{self.user} since {self.began_at:%Y-%m-%d %H:%M}"


class Key(models.Model):
    """A machine key. Its text is shown once, and only the digest is stored. People identify the key by its prefix."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="machine_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, unique=True)
    digest = models.CharField(max_length=64)  # sha256 of the whole key, which is 256 random bits
    scopes = models.JSONField()  # of fleet.access.rules.SCOPES
    # The key that created this one. Revoking that key revokes this one.
    maker = models.ForeignKey("self", null=True, on_delete=models.CASCADE)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True)
    used_at = models.DateTimeField(null=True)  # to the minute
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "machine key"

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"

    @property
    def ref(self) -> str:
        return ids.encode(ids.KEY, self.id)
