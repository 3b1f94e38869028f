"""The ASGI application of the site, which `python -m fleet.web` serves."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
django.setup(set_prefix=False)  # before the imports below, which need the apps

from channels.routing import ProtocolTypeRouter  # noqa: E402

from fleet.live.sockets import Sockets  # noqa: E402
from fleet.live.streaming import Streams  # noqa: E402
from fleet.web.bodies import BodyLimiter  # noqa: E402
from fleet.web.concurrency_limiter import ConcurrencyLimiter  # noqa: E402
from fleet.web.handler import Handler  # noqa: E402

django_application = Handler()
limited = BodyLimiter(ConcurrencyLimiter(django_application))
application = ProtocolTypeRouter({"http": Streams(limited), "websocket": Sockets(limited)})
