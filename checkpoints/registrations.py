"""What checkpoints add to lower layers: automatic captures, the artifacts that they use, parts of backups."""

from checkpoints import backups, policy

policy.register()
backups.register()
