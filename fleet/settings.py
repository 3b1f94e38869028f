"""The settings of a fleet. Each is one line, read with a typed reader, and has its row in docs/settings.md."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from django.templatetags.static import static

from fleet.config import credentials, datastores, home
from fleet.config.env import Environment
from fleet.limits import addresses, rates
from fleet.observability import logs
from fleet.postgres import pool

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment()

# ── Where things are ─────────────────────────────────────────────────────────────────────────────────────────────────
FLEET_HOME = home.locate(BASE_DIR)
FLEET_CREDENTIALS = credentials.ensure(FLEET_HOME)
FLEET_ENDPOINTS = datastores.resolve(env, FLEET_HOME, FLEET_CREDENTIALS)
FLEET_WEB_PORT = env.integer("FLEET_WEB_PORT", 8000)
FLEET_URL = env.parsed("FLEET_URL", "", datastores.site)  # where the site is reached from other hosts, through a proxy
FLEET_ALERT_RESPONSE_S = env.number("FLEET_ALERT_RESPONSE_S", 1)  # 0 here and below: no limit, no event
FLEET_ALERT_MEMORY_MB = env.integer("FLEET_ALERT_MEMORY_MB", 2_000)  # of one service, its descendants included
FLEET_ALERT_RESTARTS = env.integer(
    "FLEET_ALERT_RESTARTS", 3
)  # of one service since its start; for the alert, in the window
FLEET_ALERT_QUEUE_S = env.number("FLEET_ALERT_QUEUE_S", 300)  # that a queued sortie waits for an agent
FLEET_ALERT_UNSERVED_S = env.number("FLEET_ALERT_UNSERVED_S", 30)  # that work waits for a type without agents
FLEET_ALERT_SILENCE_S = env.number("FLEET_ALERT_SILENCE_S", 900)  # that an attempt has printed nothing
FLEET_ALERT_STALLED_S = env.number("FLEET_ALERT_STALLED_S", 900)  # that nothing of a running mission has moved
FLEET_ALERT_UNSEALED_S = env.number("FLEET_ALERT_UNSEALED_S", 60)  # that audit entries wait for an open transaction
FLEET_ALERT_AGENTS_LOST = env.integer("FLEET_ALERT_AGENTS_LOST", 3)  # in the window
FLEET_ALERT_RETRY_SHARE = env.number("FLEET_ALERT_RETRY_SHARE", 0.3)  # of the attempts that ended in the window
FLEET_ALERT_WINDOW_S = env.number("FLEET_ALERT_WINDOW_S", 600, least=1)
FLEET_ALERT_QUIET_S = env.number("FLEET_ALERT_QUIET_S", 30)  # an alert that was not found for so long is over

# ── How work is done ─────────────────────────────────────────────────────────────────────────────────────────────────
FLEET_NODE = env.text("FLEET_NODE")  # this host's name in the fleet; its hostname where empty
FLEET_LEASE_S = env.number("FLEET_LEASE_S", 30, least=1)  # a worker that is not heard of for so long has lost its work
FLEET_RENEW_S = env.number("FLEET_RENEW_S", 2, least=0.1)  # how often a worker renews; also how soon it hears a cancel
FLEET_HEARTBEAT_S = env.number("FLEET_HEARTBEAT_S", 5, least=0.1)
FLEET_CONTROL_S = env.number("FLEET_CONTROL_S", 0.5, least=0.05)  # the control loop's beat
FLEET_LISTEN_S = env.number("FLEET_LISTEN_S", 2, least=0.05)  # a worker that heard nothing for so long looks for itself
FLEET_ANSWER_S = env.integer("FLEET_ANSWER_S", 5, least=1)  # that Postgres is silent before it is asked if it is there
FLEET_GRACE_S = env.number("FLEET_GRACE_S", 5, least=0)  # between SIGTERM and SIGKILL for a driver's processes
FLEET_LINGER_S = env.number("FLEET_LINGER_S", 2, least=0)  # for what holds the output when the main process has ended
FLEET_TIMEOUT_S = env.number("FLEET_TIMEOUT_S", 3600, least=1)  # of a sortie whose plan names no timeout
FLEET_PROMPT_SILENCE_S = env.number("FLEET_PROMPT_SILENCE_S", 1800, least=1)  # of a prompt whose plan names no silence
FLEET_SPAWN_S = env.number("FLEET_SPAWN_S", 60, least=1)  # an agent that has not reported by then has failed
FLEET_DRAIN_S = env.number("FLEET_DRAIN_S", 10, least=0)  # what an agent that is asked to end gives its sorties
FLEET_NODE_PLACES = env.integer("FLEET_NODE_PLACES", 16)  # agents that this host's node takes at most
FLEET_SPARE_CONNECTIONS = env.integer("FLEET_SPARE_CONNECTIONS", 20)  # to Postgres, kept for commands
FLEET_MAX_CRASHES = env.integer("FLEET_MAX_CRASHES", 5)  # of one post's agents in a row, before it is given up
FLEET_SCALE_UP_S = env.number("FLEET_SCALE_UP_S", 5, least=0)  # work waits so long before its type gets more agents
FLEET_SCALE_DOWN_S = env.number("FLEET_SCALE_DOWN_S", 120, least=0)  # an agent has none so long before it is ended
FLEET_STALL_S = env.number("FLEET_STALL_S", 30, least=1)  # an agent that takes nothing for so long, while work waits
FLEET_MAX_REVIVALS = env.integer("FLEET_MAX_REVIVALS", 3)  # of such an agent's post, in an hour
FLEET_MAX_RESCUES = env.integer("FLEET_MAX_RESCUES", 3)
FLEET_MAX_SORTIES = env.integer("FLEET_MAX_SORTIES", 20_000)  # in one mission, those added at run time included
FLEET_MAX_ADDED = env.integer("FLEET_MAX_ADDED", 1_000)  # by one sortie
FLEET_PLAN_BYTES = env.integer("FLEET_PLAN_BYTES", 10_000_000)
FLEET_PLAN_S = env.number("FLEET_PLAN_S", 10)  # of processor time that reading one may take
FLEET_RESULT_BYTES = env.integer("FLEET_RESULT_BYTES", 1_000_000)
FLEET_ADDED_BYTES = env.integer("FLEET_ADDED_BYTES", 10_000_000)  # of one attempt's FLEET_SORTIES
FLEET_NEEDS_BYTES = env.integer("FLEET_NEEDS_BYTES", 100_000_000)  # of the results that one sortie needs, together
FLEET_OUTPUT_BYTES = env.integer("FLEET_OUTPUT_BYTES", 2_000_000)  # kept of one attempt's output, half head, half tail
FLEET_ARTIFACT_BYTES = env.integer("FLEET_ARTIFACT_BYTES", 100_000_000)
FLEET_AGENT_LOG_BYTES = env.integer("FLEET_AGENT_LOG_BYTES", 1_000_000, least=10_000)  # kept of one agent's own log
FLEET_SAMPLE_S = env.number("FLEET_SAMPLE_S", 10, least=0.1)  # how often a node looks at what its agents use
FLEET_SAMPLES_FINE_H = env.number("FLEET_SAMPLES_FINE_H", 6, least=0.1)  # hours until that becomes ten-minute means
FLEET_SAMPLES_DAYS = env.number("FLEET_SAMPLES_DAYS", 14, least=0.1)  # and days until those go
FLEET_ENV_ALLOW = env.words("FLEET_ENV_ALLOW", ("PATH", "LANG", "LC_ALL", "TZ", "TERM"))
FLEET_SANDBOX = env.boolean(
    "FLEET_SANDBOX", True
)  # off: work runs without a sandbox and may do what the fleet's user may
FLEET_FOLDERS = env.words("FLEET_FOLDERS")  # folders below which a launch over the API may name the mission's folder
FLEET_CALLABLES = env.words("FLEET_CALLABLES")  # modules whose @register functions plans may call
FLEET_SCRIPTED_DRIVER = env.boolean("FLEET_SCRIPTED_DRIVER", False)  # the tests' and the bench's own driver
FLEET_ACCESS_MINUTES = env.number("FLEET_ACCESS_MINUTES", 5, least=0.1)  # the life of an access token
FLEET_REFRESH_DAYS = env.number("FLEET_REFRESH_DAYS", 7, least=0.01)  # and of the refresh token beside it
FLEET_JWT_KEY = env.text("FLEET_JWT_KEY")  # signs them; the web process makes one of its own where empty
FLEET_AUDIT_ANCHOR = env.text("FLEET_AUDIT_ANCHOR")  # a file that the control loop appends the audit chain's heads to
FLEET_RETAIN_DAYS = env.integer("FLEET_RETAIN_DAYS", 30)
FLEET_RETAIN_MISSIONS = env.integer("FLEET_RETAIN_MISSIONS", 10_000)

# ── Who may come how often, and from where ───────────────────────────────────────────────────────────────────────────
FLEET_HTTPS = env.boolean("FLEET_HTTPS", False)  # the site is reached by https only, through a proxy that speaks it
FLEET_TRUSTED_PROXIES = env.parsed("FLEET_TRUSTED_PROXIES", "", addresses.parse_networks)  # what they say is believed
FLEET_CORS_ORIGINS = env.words("FLEET_CORS_ORIGINS")  # sites whose pages may use the API
FLEET_LIMIT_IP = env.parsed("FLEET_LIMIT_IP", "100/m", rates.parse)  # requests of strangers and with tokens, by address
FLEET_LIMIT_SESSION = env.parsed("FLEET_LIMIT_SESSION", "600/m", rates.parse)  # of a user's signed-in browsers
FLEET_LIMIT_AUTH = env.parsed("FLEET_LIMIT_AUTH", "10/m", rates.parse)  # sign-ins, by address
FLEET_LIMIT_KEY = env.parsed("FLEET_LIMIT_KEY", "600/m", rates.parse)  # of one machine key
FLEET_LIMIT_USER = env.parsed("FLEET_LIMIT_USER", "3000/m", rates.parse)  # of all machine keys and sessions of a user
FLEET_LIMIT_NEW_KEY = env.parsed("FLEET_LIMIT_NEW_KEY", "60/h", rates.parse)  # machine keys that a user makes
FLEET_LIMIT_DENIED = env.parsed(
    "FLEET_LIMIT_DENIED", "60/h", rates.parse
)  # refusals of a user that the audit trail tells
FLEET_LIMIT_AGENT = env.parsed("FLEET_LIMIT_AGENT", "1200/m", rates.parse)  # of one agent
FLEET_LIMIT_COST_S = env.number("FLEET_LIMIT_COST_S", 20)  # of processor time a minute: the costly requests of one user
FLEET_LIMITS = env.parsed("FLEET_LIMITS", "", rates.parse_overrides)  # role:admin=300/m route:missions.create=30/m
FLEET_LOCKOUT_FAILURES = env.integer("FLEET_LOCKOUT_FAILURES", 10, least=1)  # wrong passwords of one name and address
FLEET_LOCKOUT_MINUTES = env.integer("FLEET_LOCKOUT_MINUTES", 15, least=1)  # until they may try again
FLEET_LOG = env.choice("FLEET_LOG", "plain", logs.STYLES)
FLEET_PROCESS = env.text("FLEET_PROCESS")  # set by fleet_up for the processes that it keeps
FLEET_COMMAND = env.text("FLEET_COMMAND")  # set by fleet_up for the commands that it runs: how its user began it
FLEET_PATIENCE_S = env.number("FLEET_PATIENCE_S", 20, least=0.1)  # with a client that sends or takes nothing
FLEET_ADDRESS_CONNECTIONS = env.integer(
    "FLEET_ADDRESS_CONNECTIONS", 800
)  # of one address, in all processes; 0: any number
FLEET_WEB_WORKERS = env.integer("FLEET_WEB_WORKERS", 2, least=1)  # processes that serve the site
FLEET_WEB_POOL = env.integer("FLEET_WEB_POOL", 10)  # connections to Postgres that each of them keeps; 0: none
FLEET_WEB_AT_ONCE = env.integer("FLEET_WEB_AT_ONCE", 4, least=1)  # requests that each works on at once
FLEET_WEB_WAITING = env.integer("FLEET_WEB_WAITING", 64)  # that wait for their turn in each; more are refused
FLEET_LIVE_LISTENERS = env.integer(
    "FLEET_LIVE_LISTENERS", 2_000, least=1
)  # open streams, in all processes; one user a quarter
FLEET_LIVE_RECHECK_S = env.number(
    "FLEET_LIVE_RECHECK_S", 15, least=0.1
)  # how often listeners are asked for their right

# ── Django ───────────────────────────────────────────────────────────────────────────────────────────────────────────
SECRET_KEY = env.text("FLEET_SECRET_KEY") or FLEET_CREDENTIALS.secret_key
DEBUG = env.boolean("FLEET_DEBUG", False)
ALLOWED_HOSTS = env.words("FLEET_ALLOWED_HOSTS", ("127.0.0.1", "localhost", "[::1]"))
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "corsheaders",
    "csp",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "fleet.apps.FleetConfig",
    "agents.apps.AgentsConfig",
    "missions.apps.MissionsConfig",
]
MIDDLEWARE = [
    "fleet.web.requests.identified",  # first: all others may ask who it is, and whether it came by https
    "django.middleware.security.SecurityMiddleware",
    "fleet.web.policies.Policies",
    "corsheaders.middleware.CorsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "fleet.access.middleware.Named",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "fleet.urls"
ASGI_APPLICATION = "fleet.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "fleet" / "templates"],  # before unfold's, some of which are ours
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "fleet.postgres",
        "HOST": FLEET_ENDPOINTS.postgres.host,
        "PORT": FLEET_ENDPOINTS.postgres.port,
        "USER": FLEET_ENDPOINTS.postgres.user,
        "PASSWORD": FLEET_ENDPOINTS.postgres.password,
        "NAME": FLEET_ENDPOINTS.postgres.name,
        "OPTIONS": {
            "connect_timeout": str(FLEET_ANSWER_S),
            # A way that swallows everything is noticed after 14 s, and not after the two hours of the kernel's own settings:
            # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-KEEPALIVES
            "keepalives_idle": "5",
            "keepalives_interval": "3",
            "keepalives_count": "3",
            "tcp_user_timeout": "14000",
            "options": "-c idle_in_transaction_session_timeout=60s",
            **FLEET_ENDPOINTS.postgres.options,
            **pool.options(process=FLEET_PROCESS, most=FLEET_WEB_POOL),
            # By this the audit trail tells the fleet's own writes from those of others, such as people in a shell.
            "application_name": "manage.py shell" if sys.argv[1:2] == ["shell"] else "fleet",
        },
        "CONN_HEALTH_CHECKS": True,  # of a pool's connections: none is given out that a restart of Postgres has cut
    }
}
CACHES = {
    "default": {"BACKEND": "fleet.limits.cache.Cache", "LOCATION": FLEET_ENDPOINTS.redis_url, "KEY_PREFIX": "fleet"}
}
LOGGING = logs.configuration(style=FLEET_LOG)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTHENTICATION_BACKENDS = ["fleet.limits.signin.Lockout", "django.contrib.auth.backends.ModelBackend"]
AXES_CLIENT_IP_CALLABLE = "fleet.limits.addresses.lockout_key"
AXES_COOLOFF_TIME = timedelta(minutes=FLEET_LOCKOUT_MINUTES)
AXES_DISABLE_ACCESS_LOG = True  # the audit trail has it
AXES_ENABLE_ADMIN = False
AXES_FAILURE_LIMIT = FLEET_LOCKOUT_FAILURES
AXES_LOCKOUT_CALLABLE = "fleet.limits.signin.refusal"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # or else somebody could lock another out for good
AXES_RESET_ON_SUCCESS = True
AXES_USERNAME_CALLABLE = "fleet.limits.signin.username"
AXES_VERBOSE = False
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = "fleet.formats"
STATIC_URL = "static/"
LOGIN_REDIRECT_URL = "/admin/"  # for who opens the sign-in page itself
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "artifacts": {
        "BACKEND": "missions.artifacts.storage.WholeFiles",
        "OPTIONS": {"location": FLEET_HOME.artifacts, "file_permissions_mode": 0o600},
    },
}
WHITENOISE_USE_FINDERS = True
DATA_UPLOAD_MAX_MEMORY_SIZE = FLEET_PLAN_BYTES + 1_000_000  # a body: the largest plan and what stands around it
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = FLEET_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if FLEET_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = FLEET_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")  # which only our proxies can set: fleet/web/requests.py
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]  # asked from this host, beside the proxy
SECURE_CONTENT_TYPE_NOSNIFF = True
SILENCED_SYSTEM_CHECKS = ["security.W021"]  # the browsers' preload list is for the owner of a whole domain to join
X_FRAME_OPTIONS = "DENY"
CORS_ALLOWED_ORIGINS = FLEET_CORS_ORIGINS
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_CREDENTIALS = False  # other sites' pages show tokens; a browser's session is for our own
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "last-event-id",
    "range",
    "x-request-id",
]
CORS_EXPOSE_HEADERS = [
    "accept-ranges",
    "content-disposition",
    "content-range",
    "etag",
    "idempotency-replayed",
    "location",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "retry-after",
    "x-request-id",
]
UNFOLD = {
    "SITE_TITLE": "Fleet",
    "SITE_HEADER": "Fleet",
    "SHOW_VIEW_ON_SITE": False,
    "SITE_URL": None,  # the site is the admin itself
    "SHOW_BACK_BUTTON": True,
    "SIDEBAR": {"navigation": "fleet.admin.navigation.sidebar"},
    "DASHBOARD_CALLBACK": "missions.admin.overview.context",
    "STYLES": [lambda request: static("fleet/admin.css")],
    "SITE_FAVICONS": [{"rel": "icon", "href": "data:,"}],  # none: browsers ask for /favicon.ico otherwise
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "fleet.access.authentication.BearerAuthentication",  # the first one: what is not signed in is answered 401
        "fleet.access.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["fleet.api.permissions.Nobody"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["fleet.api.http.parsers.JsonParser"],
    "EXCEPTION_HANDLER": "fleet.api.problems.handle",
    "DEFAULT_SCHEMA_CLASS": "fleet.api.openapi.extensions.Describe",
    "URL_FORMAT_OVERRIDE": None,  # `format` is a parameter like any other: fleet/api/openapi/pages.py has one, the others none
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Fleet",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "fleet.api.openapi.extensions.tidy",
    ],
    "ENUM_NAME_OVERRIDES": {
        "MissionState": "missions.states.MissionState",
        "SortieState": "missions.states.SortieState",
        "AgentState": "agents.models.Agent.State",
        "AttemptState": "missions.models.Attempt.State",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# ── Celery: messages are hints ───────────────────────────────────────────────────────────────────────────────────────
CELERY_BROKER_URL = FLEET_ENDPOINTS.redis_url
CELERY_BROKER_TRANSPORT = "fleet.transport:Transport"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = True
CELERY_DB_REUSE_MAX = 1_000_000  # the Django fixup would close the connection around each task
CELERY_EVENT_QUEUE_TTL = 60.0
