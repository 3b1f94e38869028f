"""What apps add to the layers below them: metrics, checks, parts of backups, hooks. Each has it in its `extensions.py`.

It is loaded when somebody first asks for what was added. Most commands never do, and loading it at every start would
take them a third of their time.
"""

from __future__ import annotations

from functools import cache

from django.utils.module_loading import autodiscover_modules


@cache
def load() -> None:
    """Import the `extensions.py` of every app."""
    autodiscover_modules("extensions")
