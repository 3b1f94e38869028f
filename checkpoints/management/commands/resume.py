"""`manage.py resume`: an alias of `fleet_resume`."""

from checkpoints.management.commands.fleet_resume import Command as Command
