from django.apps import AppConfig
from django.conf import settings
from django.utils.module_loading import autodiscover_modules

from agents import callables


class AgentsConfig(AppConfig):
    name = "agents"
    verbose_name = "Agents"

    def ready(self) -> None:
        """Fill the registry of what plans may call: `callables.py` of each app, and what the operator names."""
        autodiscover_modules("callables")
        callables.load(settings.FLEET_CALLABLES)
