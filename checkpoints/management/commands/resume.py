"""`manage.py resume`: another name of `fleet_resume`."""

from checkpoints.management.commands.fleet_resume import Command as Command
