"""`manage.py checkpoint`: another name of `fleet_checkpoint`."""

from checkpoints.management.commands.fleet_checkpoint import Command as Command
