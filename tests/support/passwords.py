"""A fast hash of passwords for tests: Django's own takes half a second of a core for each user that a test creates."""

from __future__ import annotations

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class FastHasher(PBKDF2PasswordHasher):
    """Django's default with few iterations. Its hashes contain their number, so every process can check them."""

    iterations = 10
