"""The callable that the measurement `call` runs, in a child process."""

from agents.callables import Context, register


@register
def nothing(context: Context) -> None:
    """Do nothing."""
