"""Checkpoints over HTTP, as missions.api does it for missions."""
