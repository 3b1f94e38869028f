"""`manage.py checkpoint`: an alias of `fleet_checkpoint`."""

from checkpoints.management.commands.fleet_checkpoint import Command as Command
