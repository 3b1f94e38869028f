"""What agents add to lower layers: their metrics."""

from agents import metrics  # noqa: F401
