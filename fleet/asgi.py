"""What the web process serves: `uvicorn fleet.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
django_application = get_asgi_application()  # before what follows: it loads the apps

from channels.routing import ProtocolTypeRouter  # noqa: E402

from fleet.bodies import Bounded  # noqa: E402
from fleet.live.sockets import Sockets  # noqa: E402
from fleet.live.streaming import Streams  # noqa: E402
from fleet.web.turns import Turns  # noqa: E402

application = ProtocolTypeRouter(
    {"http": Streams(Bounded(Turns(django_application))), "websocket": Sockets(django_application)}
)
