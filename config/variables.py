"""What an operator may set: read once from the environment through ``config.env``.

``docs/settings.md`` lists every variable; a test holds that table to this file. Outside
production the secrets have well-known development values, on which production does not start
(``config.settings``). Sizes are in bytes, times in seconds.
"""

from pathlib import Path

from config.env import load

BASE_DIR = Path(__file__).resolve().parent.parent
env = load(BASE_DIR)

# --- The process -----------------------------------------------------------------

SLUICE_ENV = env.choice(
    "SLUICE_ENV",
    ("development", "production", "test"),
    "development",
    owner="config",
    doc="What kind of installation this is; production refuses insecure defaults.",
)
IS_PRODUCTION = SLUICE_ENV == "production"
DEBUG = env.flag("DEBUG", False, owner="config", doc="Django's debug pages; never in production.")
STATE_DIR = Path(
    env.text(
        "SLUICE_STATE_DIR",
        str(BASE_DIR / ".sluice"),
        owner="config",
        doc="Folder of everything one machine keeps: embedded databases, models, logs.",
    )
)
SLUICE_URL = env.text(
    "SLUICE_URL",
    "http://127.0.0.1:8000",
    owner="config",
    doc="Public address of the web process, used in links and snippets.",
)
LOG_LEVEL = env.text("LOG_LEVEL", "INFO", owner="config", doc="Least severe level that is logged.")
LOG_FORMAT = env.choice(
    "LOG_FORMAT",
    ("json", "console"),
    "json",
    owner="config",
    doc="One JSON object a line, or short lines for a terminal.",
)

# --- Secrets: one for each purpose, so that one leak opens one door ---------------------

INSECURE = "insecure-development-only-"
SECRET_KEY = env.text(
    "SECRET_KEY",
    INSECURE + "django",
    owner="config",
    doc="Signs sessions and password-reset links.",
    secret=True,
)
API_KEY_PEPPER = env.text(
    "API_KEY_PEPPER",
    INSECURE + "keys",
    owner="tenants",
    doc="HMAC key under which API keys are stored; changing it revokes every key.",
    secret=True,
)
CACHE_SALT_SECRET = env.text(
    "CACHE_SALT_SECRET",
    INSECURE + "salt",
    owner="inference",
    doc="Derives each organization's KV-cache salt.",
    secret=True,
)
FIELD_ENCRYPTION_KEY = env.text(
    "FIELD_ENCRYPTION_KEY",
    INSECURE + "fields",
    owner="tenants",
    doc="Encrypts stored secrets (identity providers', authenticator apps'); a comma list rotates: the first encrypts, all decrypt.",
    secret=True,
)
METRICS_TOKEN = env.text(
    "METRICS_TOKEN",
    "",
    owner="api",
    doc="Bearer token that /metrics asks for; without one, only loopback may read it.",
    secret=True,
)

# --- Where the services are ----------------------------------------------------------

DATABASE_URL = env.text(
    "DATABASE_URL",
    "",
    owner="config",
    doc="postgresql://user:password@host:port/name as the tables' owner, for manage.py only;"
    " unset, `make up` starts an embedded server.",
    secret=True,
)
DATABASE_WEB_URL = env.text(
    "DATABASE_WEB_URL",
    "",
    owner="tenants",
    doc="The same database as the role sluice_web, whom row-level security holds to one tenant.",
    secret=True,
)
DATABASE_STAFF_URL = env.text(
    "DATABASE_STAFF_URL",
    "",
    owner="tenants",
    doc="The same database as the role sluice_staff, for the staff admin and background work.",
    secret=True,
)
DATABASE_POOL_MAX = env.integer(
    "DATABASE_POOL_MAX",
    16,
    owner="config",
    doc="PostgreSQL connections of a process for each role that it logs in as.",
    minimum=1,
)
DATABASE_TIMEOUT_S = env.number(
    "DATABASE_TIMEOUT_S", 5.0, owner="config", doc="Seconds to wait for a PostgreSQL connection."
)
REDIS_URL = env.text(
    "REDIS_URL",
    "redis://127.0.0.1:6379/0",
    owner="config",
    doc="Admission counters, mailboxes, caches and, by default, the broker.",
    secret=True,
)
REDIS_SOCKET = env.text(
    "REDIS_SOCKET",
    "",
    owner="config",
    doc="Path of a Unix socket of the same server as REDIS_URL's, when it runs on this machine;"
    " the token path goes by it, which costs less than TCP.",
)
CELERY_BROKER_URL = env.text(
    "CELERY_BROKER_URL",
    "",
    owner="config",
    doc="Celery's broker if not REDIS_URL, for example amqp://… for RabbitMQ.",
    secret=True,
)
REDIS_TIMEOUT_S = env.number(
    "REDIS_TIMEOUT_S", 2.0, owner="config", doc="Seconds before a Redis command is given up."
)

# --- The web process -------------------------------------------------------------------

ALLOWED_HOSTS = env.names(
    "ALLOWED_HOSTS",
    ["127.0.0.1", "localhost", "[::1]"],
    owner="config",
    doc="Host names the pages and the API answer to.",
)
CSRF_TRUSTED_ORIGINS = env.names(
    "CSRF_TRUSTED_ORIGINS", [], owner="config", doc="Origins behind a TLS-ending proxy."
)
SECURE_COOKIES = env.flag(
    "SECURE_COOKIES",
    IS_PRODUCTION,
    owner="config",
    doc="Send cookies over HTTPS only, with HSTS; true by default in production.",
)
TRUSTED_PROXIES = env.names(
    "TRUSTED_PROXIES",
    [],
    owner="config",
    doc="Addresses whose X-Forwarded-For and X-Forwarded-Proto are believed.",
)
MAX_BODY_BYTES = env.integer(
    "MAX_BODY_BYTES",
    4 * 1024 * 1024,
    owner="api",
    doc="Largest JSON body that an inference endpoint reads.",
    minimum=1024,
)
BODY_TIMEOUT_S = env.number(
    "BODY_TIMEOUT_S", 20.0, owner="api", doc="Seconds a client has to send a request's body."
)
MAX_IN_FLIGHT = env.integer(
    "MAX_IN_FLIGHT",
    2048,
    owner="api",
    doc="Inference requests one web process holds at once; more are refused with retry-after.",
    minimum=1,
)
WEBSOCKET_MAX_REQUESTS = env.integer(
    "WEBSOCKET_MAX_REQUESTS",
    32,
    owner="api",
    doc="Requests in flight on one WebSocket.",
    minimum=1,
)
WEBSOCKET_MAX_PER_KEY = env.integer(
    "WEBSOCKET_MAX_PER_KEY",
    1000,
    owner="api",
    doc="WebSockets of one key that one web process holds open.",
    minimum=1,
)
WEBSOCKET_MAX_PER_ORGANIZATION = env.integer(
    "WEBSOCKET_MAX_PER_ORGANIZATION",
    5000,
    owner="api",
    doc="WebSockets of one organization that one web process holds open.",
    minimum=1,
)
WEBSOCKET_IDLE_S = env.number(
    "WEBSOCKET_IDLE_S",
    600.0,
    owner="api",
    doc="Seconds after which a WebSocket without a request is closed.",
)
RESUME_GRACE_S = env.number(
    "RESUME_GRACE_S",
    30.0,
    owner="api",
    doc="Seconds for which a resumable request goes on while nobody reads its stream.",
)
STREAM_LOG_ORGANIZATION_BYTES = env.integer(
    "STREAM_LOG_ORGANIZATION_BYTES",
    256 * 1024 * 1024,
    owner="inference",
    doc="Most bytes of one organization's resumable streams and kept answers in Redis.",
    minimum=1024,
)
MANAGEMENT_REQUESTS_PER_MINUTE = env.integer(
    "MANAGEMENT_REQUESTS_PER_MINUTE",
    300,
    owner="api",
    doc="Calls of the management API that one admin key may make in a minute.",
    minimum=1,
)

# --- Inference ---------------------------------------------------------------------------

ENGINE = env.choice(
    "ENGINE",
    ("vllm", "simulated"),
    "vllm",
    owner="workers",
    doc="What the replicas run. The simulated engine makes up its text; production refuses it.",
)
SIMULATED_PROFILE = env.text(
    "SIMULATED_PROFILE",
    "instant",
    owner="workers",
    doc="Timing of the simulated engine: instant, or a JSON file with a measured profile.",
)
MODEL_STORE = Path(
    env.text(
        "MODEL_STORE",
        str(STATE_DIR / "models"),
        owner="inference",
        doc="Folder with the weights that `manage.py pull_model` fetched.",
    )
)
CACHE_ANALYSIS = env.flag(
    "CACHE_ANALYSIS",
    True,
    owner="inference",
    doc="Estimate from a sample of digests, never of texts, what caching would save organizations.",
)
REPLICA_ID = env.text(
    "REPLICA_ID", "", owner="workers", doc="Name of the replica that an engine worker runs."
)
REPLICA_DEPLOYMENT = env.text(
    "REPLICA_DEPLOYMENT", "", owner="workers", doc="Deployment that this engine worker serves."
)
WORKER_METRICS_PORT = env.integer(
    "WORKER_METRICS_PORT",
    0,
    owner="workers",
    doc="Port of a worker's /metrics, /healthz and /readyz; 0 turns them off.",
)
WORKER_METRICS_HOST = env.text(
    "WORKER_METRICS_HOST",
    "127.0.0.1",
    owner="workers",
    doc="Address on which a worker serves its metrics.",
)
WORKER_BYPASS_HOST = env.text(
    "WORKER_BYPASS_HOST",
    "127.0.0.1",
    owner="workers",
    doc="Address at which gateways reach an engine worker while Redis is away; 0.0.0.0 on several machines.",
)
KV_CACHE_GIB = env.integer(
    "KV_CACHE_GIB", 1, owner="workers", doc="GiB of KV cache of a CPU replica.", minimum=1
)
ENGINE_THREADS = env.text(
    "ENGINE_THREADS",
    "auto",
    owner="workers",
    doc="CPU engine threads: auto (all of few cores, else vLLM's choice), all, or cores as 0-3.",
)
REPLICA_SILENCE_S = env.number(
    "REPLICA_SILENCE_S",
    2.0,
    owner="inference",
    doc="A replica not heard of for this long loses its requests to another.",
)
REQUEST_TIMEOUT_S = env.number(
    "REQUEST_TIMEOUT_S",
    600.0,
    owner="inference",
    doc="Longest life of one request from admission to its last token.",
)
HOLD_EXPIRY_S = env.number(
    "HOLD_EXPIRY_S",
    900.0,
    owner="tenants",
    doc="Age at which a hold that nobody settled is reconciled; above REQUEST_TIMEOUT_S.",
)

# --- Files and batches -------------------------------------------------------------------

OBJECT_STORE = env.text(
    "OBJECT_STORE",
    str(STATE_DIR / "objects"),
    owner="inference",
    doc="Where files of clients lie: a folder that all processes share, or s3://bucket/prefix"
    " (the `s3` extra; credentials as for the AWS SDK).",
)
MAX_FILE_BYTES = env.integer(
    "MAX_FILE_BYTES",
    200 * 1024 * 1024,
    owner="inference",
    doc="Largest file that a client may upload.",
    minimum=1024,
)
MAX_BATCH_LINES = env.integer(
    "MAX_BATCH_LINES", 50_000, owner="inference", doc="Most requests of one batch.", minimum=1
)
UPLOAD_TIMEOUT_S = env.number(
    "UPLOAD_TIMEOUT_S", 600.0, owner="api", doc="Seconds a client has to send a file."
)
MAX_UPLOADS = env.integer(
    "MAX_UPLOADS",
    16,
    owner="api",
    doc="Files that one web process receives at once; each holds up to 16 MiB of memory.",
    minimum=1,
)
BATCH_MAX_IN_FLIGHT = env.integer(
    "BATCH_MAX_IN_FLIGHT",
    512,
    owner="api",
    doc="Most requests of batches that one batch process has at the replicas of a model.",
    minimum=1,
)
BACKGROUND_MAX_OPEN = env.integer(
    "BACKGROUND_MAX_OPEN",
    200,
    owner="inference",
    doc="Background responses that one organization may have queued or in progress.",
    minimum=1,
)
BACKGROUND_MAX_IN_FLIGHT = env.integer(
    "BACKGROUND_MAX_IN_FLIGHT",
    128,
    owner="api",
    doc="Background responses that one batch process makes at once.",
    minimum=1,
)
BACKGROUND_EXPIRY_S = env.number(
    "BACKGROUND_EXPIRY_S",
    3600.0,
    owner="inference",
    doc="Age at which a background response that has not ended fails.",
)
ANSWERS_ORGANIZATION_BYTES = env.integer(
    "ANSWERS_ORGANIZATION_BYTES",
    1024**3,
    owner="inference",
    doc="Most bytes of one organization's kept answers; beyond it the oldest are deleted.",
    minimum=1024,
)

# --- Durable jobs ------------------------------------------------------------------------

JOBS_AT_ONCE = env.integer(
    "JOBS_AT_ONCE",
    4,
    owner="workers",
    doc="Durable jobs that one control worker runs at once, beside one that is urgent; 0: none.",
    minimum=0,
)
JOBS_PER_ORGANIZATION = env.integer(
    "JOBS_PER_ORGANIZATION",
    2,
    owner="tenants",
    doc="Durable jobs of one organization that run at once, over all workers.",
    minimum=1,
)

# --- Requests to addresses that tenants name -----------------------------------------------

OUTBOUND_PORTS = env.names(
    "OUTBOUND_PORTS",
    ["443"],
    owner="tenants",
    doc="Ports of webhooks and identity providers; 80 is reached by http, all others by https.",
)
OUTBOUND_PRIVATE_NETWORKS = env.names(
    "OUTBOUND_PRIVATE_NETWORKS",
    [],
    owner="tenants",
    doc="Private networks, as 10.1.0.0/16, in which webhooks and identity providers may be, on any"
    " port and by http too; else only the public internet is reached.",
)

# --- People and mail -----------------------------------------------------------------------

ACCOUNT_EMAIL_VERIFICATION = env.choice(
    "EMAIL_VERIFICATION",
    ("none", "optional", "mandatory"),
    "none",
    owner="tenants",
    doc="Whether a new account must confirm its e-mail address.",
)
SIGNUP_OPEN = env.flag(
    "SIGNUP_OPEN", True, owner="portal", doc="Whether strangers may create an organization."
)
SOCIAL_LOGIN_NAME = env.text(
    "SOCIAL_LOGIN_NAME",
    "",
    owner="portal",
    doc="Name of an OpenID Connect provider by which anybody may log in, as “Google”; unset: none."
    " Its redirect URI is `<SLUICE_URL>/accounts/oidc/social/callback/`.",
)
SOCIAL_LOGIN_ISSUER = env.text(
    "SOCIAL_LOGIN_ISSUER",
    "",
    owner="portal",
    doc="That provider's issuer, as https://accounts.google.com; set all four or none.",
)
SOCIAL_LOGIN_CLIENT_ID = env.text(
    "SOCIAL_LOGIN_CLIENT_ID", "", owner="portal", doc="Our client ID at that provider."
)
SOCIAL_LOGIN_CLIENT_SECRET = env.text(
    "SOCIAL_LOGIN_CLIENT_SECRET",
    "",
    owner="portal",
    doc="Our client secret at that provider.",
    secret=True,
)
EMAIL_BACKEND = env.text(
    "EMAIL_BACKEND",
    "django.core.mail.backends.console.EmailBackend",
    owner="config",
    doc="Django's e-mail backend.",
)
EMAIL_HOST = env.text("EMAIL_HOST", "localhost", owner="config", doc="SMTP server.")
EMAIL_PORT = env.integer("EMAIL_PORT", 25, owner="config", doc="SMTP port.")
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER", "", owner="config", doc="SMTP user.")
EMAIL_HOST_PASSWORD = env.text(
    "EMAIL_HOST_PASSWORD", "", owner="config", doc="SMTP password.", secret=True
)
EMAIL_USE_TLS = env.flag("EMAIL_USE_TLS", False, owner="config", doc="STARTTLS to the SMTP server.")
DEFAULT_FROM_EMAIL = env.text(
    "DEFAULT_FROM_EMAIL", "sluice@localhost", owner="config", doc="Sender of the platform's mail."
)
