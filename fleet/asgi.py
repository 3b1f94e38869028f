"""What the web process serves: `uvicorn fleet.asgi:application`."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
django.setup(set_prefix=False)  # before what follows, which needs the apps

from channels.routing import ProtocolTypeRouter  # noqa: E402

from fleet.live.sockets import Sockets  # noqa: E402
from fleet.live.streaming import Streams  # noqa: E402
from fleet.web.bodies import Bounded  # noqa: E402
from fleet.web.concurrency_limiter import ConcurrencyLimiter  # noqa: E402
from fleet.web.handler import Handler  # noqa: E402

django_application = Handler()
door = Bounded(ConcurrencyLimiter(django_application))
application = ProtocolTypeRouter({"http": Streams(door), "websocket": Sockets(door)})
