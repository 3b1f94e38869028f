"""The HTTP API of checkpoints."""
