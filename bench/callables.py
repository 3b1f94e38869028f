"""What `call` does in the measurements: nothing, in a child process of its own."""

from agents.callables import Context, register


@register
def nothing(context: Context) -> None:
    """Start, be measured, and end."""
