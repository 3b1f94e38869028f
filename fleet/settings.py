"""The settings of a fleet. Each is one line with a typed reader and has a row in docs/settings.md."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.templatetags.static import static

from fleet.config import credentials, datastores, home, settings_file, unix_sockets
from fleet.config.env import Environment, percentages
from fleet.limits import addresses, rates
from fleet.observability import logs
from fleet.postgres import parameters, pool

BASE_DIR = Path(__file__).resolve().parent.parent  # of the code: a checkout, or the folder of installed packages
FLEET_HOME = home.locate(BASE_DIR)
loaded_file = settings_file.load(FLEET_HOME)
env = Environment(places=loaded_file.places)

# ── Locations and alerts ─────────────────────────────────────────────────────────────────────────────────────────────
FLEET_CREDENTIALS = credentials.ensure(
    FLEET_HOME,
    overrides={
        "secret_key": env.secret("FLEET_SECRET_KEY"),
        "flower_password": env.secret("FLOWER_PASSWORD"),
        "metrics_token": env.secret("FLEET_METRICS_TOKEN"),
        "admin_password": env.secret("FLEET_ADMIN_PASSWORD"),
    },
)
FLEET_ENDPOINTS = datastores.resolve(env, FLEET_HOME, FLEET_CREDENTIALS)
POSTGRES_IMAGE = env.text("POSTGRES_IMAGE", "postgres:18.6-bookworm")  # for podman and docker
VALKEY_IMAGE = env.text("VALKEY_IMAGE", "valkey/valkey:9.1.2")
FLEET_CHECKPOINTS = FLEET_HOME.checkpoints(env.text("FLEET_CHECKPOINTS"))  # the folder of checkpoints
FLEET_BACKUPS = FLEET_HOME.backups(env.text("FLEET_BACKUPS"))  # the folder of backups
FLEET_WEB_PORT = env.integer("FLEET_WEB_PORT", 8000)
FLEET_URL = env.parsed("FLEET_URL", "", datastores.parse_site_url)  # the site's address for others, through a proxy
FLEET_ALERT_RESPONSE_S = env.number("FLEET_ALERT_RESPONSE_S", 1)  # of a service; 0 here and below means no limit
FLEET_ALERT_MEMORY_MB = env.integer("FLEET_ALERT_MEMORY_MB", 2_000)  # of a service and its descendants
FLEET_ALERT_RESTARTS = env.integer("FLEET_ALERT_RESTARTS", 3)  # of a service, within the window
FLEET_ALERT_QUEUE_S = env.number("FLEET_ALERT_QUEUE_S", 300)  # wait of a queued sortie for an agent
FLEET_ALERT_UNSERVED_S = env.number("FLEET_ALERT_UNSERVED_S", 30)  # wait of work whose type has no agents
FLEET_ALERT_SILENCE_S = env.number("FLEET_ALERT_SILENCE_S", 900)  # time without output of an attempt
FLEET_ALERT_STALLED_S = env.number("FLEET_ALERT_STALLED_S", 900)  # time without progress of a running mission
FLEET_ALERT_UNSEALED_S = env.number("FLEET_ALERT_UNSEALED_S", 60)  # how long sealing may be blocked
FLEET_ALERT_AGENTS_LOST = env.integer("FLEET_ALERT_AGENTS_LOST", 3)  # within the window
FLEET_ALERT_RETRY_SHARE = env.number("FLEET_ALERT_RETRY_SHARE", 0.3)  # of the attempts that ended within the window
FLEET_ALERT_SCHEDULE_FAILURES = env.integer("FLEET_ALERT_SCHEDULE_FAILURES", 3)  # of a schedule's launches in a row
FLEET_ALERT_WINDOW_S = env.number("FLEET_ALERT_WINDOW_S", 600, minimum=1)
FLEET_ALERT_QUIET_S = env.number("FLEET_ALERT_QUIET_S", 30)  # an alert ends when its cause is absent for this long

# ── Execution ────────────────────────────────────────────────────────────────────────────────────────────────────────
FLEET_WAIT_S = env.number("FLEET_WAIT_S", 120, minimum=1)  # of a container for the services that it needs
FLEET_NODE = env.text("FLEET_NODE")  # this host's name in the fleet; empty: its hostname
FLEET_LEASE_S = env.number("FLEET_LEASE_S", 30, minimum=1)  # an agent that does not renew for this long loses its work
FLEET_RENEW_S = env.number("FLEET_RENEW_S", 2, minimum=0.1)  # how often an agent renews, and learns of cancellations
FLEET_HEARTBEAT_S = env.number("FLEET_HEARTBEAT_S", 5, minimum=0.1)
FLEET_CONTROL_S = env.number("FLEET_CONTROL_S", 0.5, minimum=0.05)  # the interval of the control loop
FLEET_POLL_INTERVAL_S = env.number("FLEET_POLL_INTERVAL_S", 2, minimum=0.05)  # agents without hints look for work
FLEET_POSTGRES_TIMEOUT_S = env.integer("FLEET_POSTGRES_TIMEOUT_S", 5, minimum=1)  # silence; then a new connection
FLEET_GRACE_S = env.number("FLEET_GRACE_S", 5, minimum=0)  # between SIGTERM and SIGKILL for the processes of a driver
FLEET_LINGER_S = env.number("FLEET_LINGER_S", 2, minimum=0)  # how long descendants may keep the output open at the end
FLEET_TIMEOUT_S = env.number("FLEET_TIMEOUT_S", 3600, minimum=1)  # of a sortie without `timeout`
FLEET_PROMPT_SILENCE_S = env.number("FLEET_PROMPT_SILENCE_S", 1800, minimum=1)  # of a prompt without `silence`
FLEET_SPAWN_S = env.number("FLEET_SPAWN_S", 60, minimum=1)  # an agent that has not reported by then has failed
FLEET_DRAIN_S = env.number("FLEET_DRAIN_S", 10, minimum=0)  # how long a terminated agent waits for its sorties
FLEET_NODE_MAX_AGENTS = env.integer("FLEET_NODE_MAX_AGENTS", 16)  # the largest number of agents on this host
FLEET_TYPES = env.words("FLEET_TYPES")  # the agent types that this host serves; empty: every type
FLEET_SPARE_CONNECTIONS = env.integer("FLEET_SPARE_CONNECTIONS", 20)  # to Postgres, reserved for commands
FLEET_MAX_CRASHES = env.integer("FLEET_MAX_CRASHES", 5)  # consecutive crashes, after which a post is given up
FLEET_SCALE_UP_S = env.number("FLEET_SCALE_UP_S", 5, minimum=0)  # wait of work before its type gets more agents
FLEET_SCALE_DOWN_S = env.number("FLEET_SCALE_DOWN_S", 120, minimum=0)  # an agent that is idle for this long is ended
FLEET_STALL_S = env.number("FLEET_STALL_S", 30, minimum=1)  # an agent that takes no work for this long has stalled
FLEET_MAX_REVIVALS = env.integer("FLEET_MAX_REVIVALS", 3)  # replacements of a post's stalled agents per hour
FLEET_MAX_RESCUES = env.integer("FLEET_MAX_RESCUES", 3)
FLEET_MAX_SORTIES = env.integer("FLEET_MAX_SORTIES", 20_000)  # of a mission, including those added at run time
FLEET_MAX_SCHEDULES = env.integer("FLEET_MAX_SCHEDULES", 100)  # of one user; 0: no limit
FLEET_SCHEDULE_CATCH_UP = env.integer("FLEET_SCHEDULE_CATCH_UP", 10, minimum=1)  # missed ticks that `all` launches
FLEET_SCHEDULE_ON_TIME_S = env.number("FLEET_SCHEDULE_ON_TIME_S", 60)  # a tick that is later than this was missed
FLEET_MAX_ADDED = env.integer("FLEET_MAX_ADDED", 1_000)  # by one sortie
FLEET_PLAN_BYTES = env.integer("FLEET_PLAN_BYTES", 10_000_000)
FLEET_PLAN_S = env.number("FLEET_PLAN_S", 10)  # of CPU time to read a plan
FLEET_COMMIT_BYTES = env.integer("FLEET_COMMIT_BYTES", 50_000_000, minimum=1)  # the largest file that is committed
FLEET_REPOSITORY_ROOTS = env.words("FLEET_REPOSITORY_ROOTS")  # an API launch may name repositories below these
FLEET_GIT_CREDENTIALS = env.text("FLEET_GIT_CREDENTIALS", "")  # a file as git-credential-store(1) reads it
FLEET_REPOSITORIES_SHARED = env.boolean("FLEET_REPOSITORIES_SHARED", False)  # all nodes have the same .fleet/work
FLEET_RESULT_BYTES = env.integer("FLEET_RESULT_BYTES", 1_000_000)
FLEET_ADDED_BYTES = env.integer("FLEET_ADDED_BYTES", 10_000_000)  # of one attempt's FLEET_SORTIES
FLEET_NEEDS_BYTES = env.integer("FLEET_NEEDS_BYTES", 100_000_000)  # of the results of all needs of a sortie
FLEET_OUTPUT_BYTES = env.integer("FLEET_OUTPUT_BYTES", 2_000_000)  # stored of an attempt's output: half head, half tail
FLEET_ARTIFACT_BYTES = env.integer("FLEET_ARTIFACT_BYTES", 100_000_000)
FLEET_AGENT_LOG_BYTES = env.integer("FLEET_AGENT_LOG_BYTES", 1_000_000, minimum=10_000)  # stored of an agent's own log
FLEET_SAMPLE_S = env.number("FLEET_SAMPLE_S", 10, minimum=0.1)  # how often a node measures its agents
FLEET_SAMPLES_FINE_H = env.number("FLEET_SAMPLES_FINE_H", 6, minimum=0.1)  # hours until samples become ten-minute means
FLEET_SAMPLES_DAYS = env.number("FLEET_SAMPLES_DAYS", 14, minimum=0.1)  # days until those are deleted
FLEET_ENV_ALLOW = env.words("FLEET_ENV_ALLOW", ("PATH", "LANG", "LC_ALL", "TZ", "TERM"))
FLEET_SANDBOX = env.boolean("FLEET_SANDBOX", True)  # off: workloads have all permissions of the fleet's user
FLEET_FOLDERS = env.words("FLEET_FOLDERS")  # an API launch may choose a mission's folder below these
FLEET_PROGRAM_FOLDERS = env.words("FLEET_PROGRAM_FOLDERS")  # besides the system's; see fleet/host/trusted_programs.py
FLEET_CALLABLES = env.words("FLEET_CALLABLES")  # modules whose @register functions plans may call
FLEET_SCRIPTED_DRIVER = env.boolean("FLEET_SCRIPTED_DRIVER", False)  # the driver of the tests and the bench
FLEET_ACCESS_MINUTES = env.number("FLEET_ACCESS_MINUTES", 5, minimum=0.1)  # the lifetime of an access token
FLEET_REFRESH_DAYS = env.number("FLEET_REFRESH_DAYS", 7, minimum=0.01)  # the lifetime of a refresh token
FLEET_JWT_KEY = env.secret("FLEET_JWT_KEY")  # signs the tokens; empty: the web process generates one
FLEET_AUDIT_ANCHOR = env.text("FLEET_AUDIT_ANCHOR")  # a file to which the heads of the audit chain are appended
FLEET_CHECKPOINT_EVERY_S = env.number("FLEET_CHECKPOINT_EVERY_S", 600, minimum=0)  # of a mission that changes; 0: never
FLEET_CHECKPOINT_SORTIES = env.integer("FLEET_CHECKPOINT_SORTIES", 0)  # after every N ended sorties; 0: never
FLEET_CHECKPOINT_AT = env.parsed("FLEET_CHECKPOINT_AT", "25,50,75", percentages)  # percent of the sorties
FLEET_CHECKPOINT_ON = env.words("FLEET_CHECKPOINT_ON", ("failure", "end", "cancel", "cleanup", "shutdown"))
FLEET_CHECKPOINT_WORK_S = env.number("FLEET_CHECKPOINT_WORK_S", 60, minimum=0)  # to read the uncommitted work for one
FLEET_CHECKPOINT_DAYS = env.number("FLEET_CHECKPOINT_DAYS", 30, minimum=0)  # retention; named and newest ones stay
FLEET_CHECKPOINT_COUNT = env.integer("FLEET_CHECKPOINT_COUNT", 50)  # per mission
FLEET_CHECKPOINT_BYTES = env.integer("FLEET_CHECKPOINT_BYTES", 20_000_000_000)  # of all checkpoints together
FLEET_IMPORT_BYTES = env.integer("FLEET_IMPORT_BYTES", 200_000_000)  # of an imported mission, without its artifacts
FLEET_IMPORT_FILE_BYTES = env.integer("FLEET_IMPORT_FILE_BYTES", 2_000_000_000)  # of an imported file
FLEET_MIGRATE_LOCK_S = env.number("FLEET_MIGRATE_LOCK_S", 5, minimum=0.1)  # how long a migration waits for a lock
FLEET_RETAIN_DAYS = env.integer("FLEET_RETAIN_DAYS", 30)
FLEET_RETAIN_MISSIONS = env.integer("FLEET_RETAIN_MISSIONS", 10_000)

# ── The site: addresses, limits and processes ────────────────────────────────────────────────────────────────────────
FLEET_HTTPS = env.boolean("FLEET_HTTPS", False)  # the site accepts only https, through a proxy
FLEET_TRUSTED_PROXIES = env.parsed("FLEET_TRUSTED_PROXIES", "", addresses.parse_networks)  # their headers are trusted
FLEET_WEB_SOCKET = env.parsed("FLEET_WEB_SOCKET", "", unix_sockets.parse_path)  # also serves a proxy on this host
FLEET_CORS_ORIGINS = env.words("FLEET_CORS_ORIGINS")  # other sites whose pages may use the API
FLEET_LIMIT_IP = env.parsed("FLEET_LIMIT_IP", "100/m", rates.parse)  # per address: anonymous and with access tokens
FLEET_LIMIT_SESSION = env.parsed("FLEET_LIMIT_SESSION", "600/m", rates.parse)  # per user: of signed-in browsers
FLEET_LIMIT_AUTH = env.parsed("FLEET_LIMIT_AUTH", "10/m", rates.parse)  # per address: sign-ins
FLEET_LIMIT_KEY = env.parsed("FLEET_LIMIT_KEY", "600/m", rates.parse)  # per machine key
FLEET_LIMIT_USER = env.parsed("FLEET_LIMIT_USER", "3000/m", rates.parse)  # per user: all machine keys and sessions
FLEET_LIMIT_NEW_KEY = env.parsed("FLEET_LIMIT_NEW_KEY", "60/h", rates.parse)  # per user: new machine keys
FLEET_LIMIT_DENIED = env.parsed("FLEET_LIMIT_DENIED", "60/h", rates.parse)  # per user: audited denials
FLEET_LIMIT_AGENT = env.parsed("FLEET_LIMIT_AGENT", "1200/m", rates.parse)  # per agent
FLEET_LIMIT_COST_S = env.number("FLEET_LIMIT_COST_S", 20)  # per user: CPU time of costly requests per minute
FLEET_LIMITS = env.parsed("FLEET_LIMITS", "", rates.parse_overrides)  # role:admin=300/m route:missions.create=30/m
FLEET_LOCKOUT_FAILURES = env.integer("FLEET_LOCKOUT_FAILURES", 10, minimum=1)  # wrong passwords per name and address
FLEET_LOCKOUT_MINUTES = env.integer("FLEET_LOCKOUT_MINUTES", 15, minimum=1)  # the duration of the lockout
FLEET_LOG = env.choice("FLEET_LOG", "plain", logs.STYLES)
FLEET_PROCESS = env.text("FLEET_PROCESS")  # set by fleet_up for its processes
FLEET_COMMAND = env.text("FLEET_COMMAND")  # set by fleet_up for its commands: the prefix that its user typed
FLEET_HTTP_TIMEOUT_S = env.number("FLEET_HTTP_TIMEOUT_S", 20, minimum=0.1)  # for request headers, or a stalled reader
FLEET_ADDRESS_CONNECTIONS = env.integer("FLEET_ADDRESS_CONNECTIONS", 800)  # per address, in all processes; 0: no limit
FLEET_WEB_WORKERS = env.integer("FLEET_WEB_WORKERS", 2, minimum=1)  # processes that serve the site
FLEET_WEB_POOL = env.integer("FLEET_WEB_POOL", 10)  # connections to Postgres per process; 0: no pool
FLEET_WEB_CONCURRENCY = env.integer("FLEET_WEB_CONCURRENCY", 4, minimum=1)  # requests that each process handles at once
FLEET_WEB_QUEUE = env.integer("FLEET_WEB_QUEUE", 64)  # requests that may queue in each process; others are refused
FLEET_LIVE_LISTENERS = env.integer("FLEET_LIVE_LISTENERS", 2_000, minimum=1)  # streams; a quarter of them per user
FLEET_LIVE_RECHECK_S = env.number("FLEET_LIVE_RECHECK_S", 15, minimum=0.1)  # between checks of a listener's permission

# ── Django ───────────────────────────────────────────────────────────────────────────────────────────────────────────
SECRET_KEY = FLEET_CREDENTIALS.secret_key
DEBUG = env.boolean("FLEET_DEBUG", False)
ALLOWED_HOSTS = env.words("FLEET_ALLOWED_HOSTS", ("127.0.0.1", "localhost", "[::1]"))
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin.apps.SimpleAdminConfig",  # fleet/urls.py loads the pages, which only the site needs
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
    "checkpoints.apps.CheckpointsConfig",
]
MIDDLEWARE = [
    "fleet.web.requests.request_context",  # first: the others need the request's id, and whether it came by https
    "django.middleware.security.SecurityMiddleware",
    "fleet.web.policies.Policies",
    "corsheaders.middleware.CorsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "fleet.access.middleware.IdentifyCaller",
    "fleet.limits.denials.RecordDenials",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "fleet.urls"
ASGI_APPLICATION = "fleet.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "fleet" / "templates"],  # before unfold's, some of which we override
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
        **parameters.for_django(
            FLEET_ENDPOINTS.postgres,
            connect_timeout_s=FLEET_POSTGRES_TIMEOUT_S,
            # The audit trail recognises the fleet's own writes by this name. Writes from a shell have another one.
            application_name="manage.py shell" if sys.argv[1:2] == ["shell"] else "fleet",
            pool=pool.options(process=FLEET_PROCESS, max_size=FLEET_WEB_POOL),
        ),
        "CONN_HEALTH_CHECKS": True,  # the pool must not hand out connections that a restart of Postgres has closed
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
AXES_DISABLE_ACCESS_LOG = True  # the audit trail records sign-ins
AXES_ENABLE_ADMIN = False
AXES_FAILURE_LIMIT = FLEET_LOCKOUT_FAILURES
AXES_LOCKOUT_CALLABLE = "fleet.limits.signin.refusal"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # otherwise anyone could lock another user out forever
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
LOGIN_REDIRECT_URL = "/admin/"  # after a sign-in without `next`
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "artifacts": {
        "BACKEND": "missions.artifacts.storage.AtomicFileStorage",
        "OPTIONS": {"location": FLEET_HOME.artifacts, "file_permissions_mode": 0o600},
    },
    "checkpoints": {
        "BACKEND": "checkpoints.files.storage.Blobs",
        "OPTIONS": {"location": FLEET_CHECKPOINTS, "file_permissions_mode": 0o600},
    },
}
WHITENOISE_USE_FINDERS = True
DATA_UPLOAD_MAX_MEMORY_SIZE = FLEET_PLAN_BYTES + 1_000_000  # a body contains a plan and a few other fields
SESSION_ENGINE = "fleet.access.sessions"
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "fleet.limits.denials.csrf_failure"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = FLEET_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if FLEET_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = FLEET_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")  # which only our proxies can set: fleet/web/requests.py
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]  # probes on this host bypass the proxy
SECURE_CONTENT_TYPE_NOSNIFF = True
SILENCED_SYSTEM_CHECKS = ["security.W021"]  # HSTS preloading is up to the owner of the whole domain
X_FRAME_OPTIONS = "DENY"
CORS_ALLOWED_ORIGINS = FLEET_CORS_ORIGINS
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_CREDENTIALS = False  # pages of other sites use tokens; session cookies are for our own pages
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
    "SITE_FAVICONS": [{"rel": "icon", "href": "data:,"}],  # no icon; otherwise browsers request /favicon.ico
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "fleet.access.authentication.BearerAuthentication",  # first, so that unauthenticated requests get 401, not 403
        "fleet.access.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["fleet.api.permissions.DenyAll"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["fleet.api.http.parsers.JsonParser"],
    "EXCEPTION_HANDLER": "fleet.api.problems.handle",
    "DEFAULT_SCHEMA_CLASS": "fleet.api.openapi.extensions.EndpointSchema",
    "URL_FORMAT_OVERRIDE": None,  # `format` is an ordinary parameter, which only fleet/api/openapi/pages.py has
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
        "fleet.api.openapi.extensions.postprocess",
    ],
    "ENUM_NAME_OVERRIDES": {
        "MissionState": "missions.states.MissionState",
        "SortieState": "missions.states.SortieState",
        "AgentState": "agents.models.Agent.State",
        "AttemptState": "missions.models.Attempt.State",
        "AuditOutcome": ["ok", "denied", "failed"],
        "CatchUpPolicy": "missions.models.CatchUp",
        "ChangeState": "missions.models.Change.State",
        "CheckpointTrigger": "checkpoints.models.Checkpoint.Trigger",
        "ConflictDecision": ["retry", "from", "drop"],
        "ConflictKind": "missions.models.Conflict.Kind",
        "ConflictOutcome": ["open", "ordered", "refused", "rework", "manual", "failed", "resolved", "dropped"],
        "ConflictPolicy": ["rework", "manual", "fail"],
        "MergeOutcome": ["created", "fast-forwarded", "merged", "unchanged"],
        "OutputStream": ["stdout", "stderr"],
        "OverlapPolicy": "missions.models.Overlap",
        "ReservationState": ["in force", "waiting", "released", "ended"],
        "RiskLevel": ["low", "medium", "high", "blocking"],
        "Role": "fleet.access.models.Role",
        "Scope": ["read", "launch", "operate", "fly", "manage"],
        "TickOutcome": "missions.models.Tick.Outcome",
        "WaitsOn": "missions.models.missions.WaitsOn",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# ── Celery: messages are hints ───────────────────────────────────────────────────────────────────────────────────────
redis = FLEET_ENDPOINTS.redis
CELERY_BROKER_URL = redis.broker_urls[0]
CELERY_BROKER_USE_SSL = redis.tls  # without it kombu connects without TLS, or does not verify the certificate
CELERY_BROKER_TRANSPORT = f"fleet.redis.transport:{'SentinelTransport' if redis.master else 'Transport'}"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
    **redis.broker_options(timeout_s=2),
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CHANNEL_ERROR_RETRY = True  # an error that Redis returns must not end an agent, which can work without it
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = True
CELERY_DB_REUSE_MAX = 1_000_000  # otherwise Celery's Django fixup closes the connection around each task
CELERY_EVENT_QUEUE_TTL = 60.0

loaded_file.accept(env.names | datastores.ONLY_WITHOUT_URLS)
