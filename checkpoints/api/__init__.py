"""The HTTP API of checkpoints. missions.api is the one of missions."""
