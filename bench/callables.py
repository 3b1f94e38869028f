"""The callable of the measurements of `call`: it does nothing, in a child process of its own."""

from agents.callables import Context, register


@register
def nothing(context: Context) -> None:
    """Do nothing."""
