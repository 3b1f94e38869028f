"""Registers the metrics of agents with the layer below."""

from agents import metrics  # noqa: F401
