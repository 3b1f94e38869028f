"""Detects every change of a password, whether by an operation, a page or one of Django's commands."""

from __future__ import annotations

from collections.abc import Collection

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import signals
from django.db.models.functions import Now

from fleet import audit
from fleet.access.models import Key


def watch() -> None:
    """Audit each changed password, and end the user's sessions."""
    signals.pre_save.connect(_compare_password, sender=User, dispatch_uid="fleet.access.compare_password")
    signals.post_save.connect(_password_changed, sender=User, dispatch_uid="fleet.access.password_changed")


def _compare_password(instance: User, raw: bool, update_fields: Collection[str] | None, **_: object) -> None:
    """Note on a user that is about to be saved whether its password changes (`has_new_password`)."""
    changed = False
    if not raw and instance.pk is not None and (update_fields is None or "password" in update_fields):
        stored = User.objects.filter(pk=instance.pk).values_list("password", flat=True).first()
        # At a sign-in, Django may rehash the same password with a stronger algorithm.
        rehashed = instance._password is None and instance.has_usable_password()  # type: ignore[attr-defined]
        changed = stored not in (None, instance.password) and not rehashed
    instance.has_new_password = changed  # type: ignore[attr-defined]


def _password_changed(instance: User, **_: object) -> None:
    """Audit the change, and end the user's API sessions.

    Machine keys stay valid, so that programs keep working; revoke them one by one. Django itself signs out all browsers
    except the one in which the password was changed.
    """
    if not getattr(instance, "has_new_password", False):
        return
    from fleet.access import tokens  # noqa: PLC0415  (slow to import, and this module is loaded at every start)

    with transaction.atomic():
        keys = Key.objects.filter(user=instance, revoked_at=None).exclude(expires_at__lte=Now()).count()
        audit.record(kind="user.password_changed", subject=f"user:{instance.username}", data={"keys_that_stay": keys})
        tokens.end(user=instance)
