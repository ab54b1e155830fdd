"""Django settings, read once from the environment through ``config.env``.

``docs/settings.md`` lists every variable; a test holds that table to this file.
Outside production the secrets have well-known development values; with
``SLUICE_ENV=production`` the process refuses to start with any of them.
"""

from ipaddress import ip_network
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.templatetags.static import static
from django.urls import reverse_lazy

from config.env import SettingError, load

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

# --- Django --------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.socialaccount.providers.saml",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "tenants",
    "billing",
    "inference",
    "api",
    "portal",
    "workers",
]
MIDDLEWARE = [
    # First, because everything after it asks who the client is and whether TLS was used.
    "portal.middleware.TrustedProxyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "portal.middleware.SecurityPolicyMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "portal.middleware.TenantScopeMiddleware",
    "portal.preferences.PreferencesMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    # After the scope and the messages, before anything that acts on a request.
    "portal.impersonation.ImpersonationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "portal.sessions.SessionActivityMiddleware",
    "portal.middleware.TenantErrorMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.context.platform",
            ],
        },
    },
]


def database_from_url(url: str) -> dict[str, object]:
    """Django's DATABASES entry for a postgresql:// URL (socket hosts as ?host=)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # The error's own words may quote the password: one with a slash reads as a port.
        raise SettingError(
            "DATABASE_URL is malformed; special characters of a password must be %-escaped"
        ) from None
    if parts.scheme not in {"postgres", "postgresql"}:
        raise SettingError("DATABASE_URL must start with postgresql://")
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    return {
        "ENGINE": "tenants.postgres",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(query.pop("host", parts.hostname or "")),
        "PORT": str(port or query.pop("port", "")),
        # Under ASGI every thread would keep a connection of its own; a pool is bounded.
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            **{name: unquote(value) for name, value in query.items()},
            "connect_timeout": max(1, int(DATABASE_TIMEOUT_S)),
            "pool": {"min_size": 1, "max_size": DATABASE_POOL_MAX, "timeout": DATABASE_TIMEOUT_S},
        },
    }


def login_from_url(url: str) -> dict[str, str]:
    """What ``tenants.postgres`` logs in with in place of the owner."""
    entry = database_from_url(url)
    login = {"user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    return {name: str(entry[key]) for name, key in login.items() if entry[key]}


# A process that serves requests has no more than the two roles' logins, and beside them
# `manage.py` acts as staff: enough for everything but migrations.
DATABASES = {
    "default": database_from_url(
        DATABASE_URL or DATABASE_STAFF_URL or "postgresql://sluice@127.0.0.1:5432/sluice"
    )
    | {
        "LOGINS": {
            role: login_from_url(url)
            for role, url in (
                ("sluice_web", DATABASE_WEB_URL),
                ("sluice_staff", DATABASE_STAFF_URL),
            )
            if url
        }
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "tenants.User"
# allauth's backend is Django's with the e-mail look-up; a second one would hash twice.
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = env.choice(
    "EMAIL_VERIFICATION",
    ("none", "optional", "mandatory"),
    "none",
    owner="tenants",
    doc="Whether a new account must confirm its e-mail address.",
)
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_ADAPTER = "portal.accounts.AccountAdapter"
ACCOUNT_FORMS = {
    "signup": "portal.forms.SignupForm",
    "add_email": "portal.account_forms.AddEmailForm",
}
# Whoever takes over a session must not take over the account: addresses, second
# factors and their like ask for the password or a factor again.
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 15 * 60
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_MAX_EMAIL_ADDRESSES = 5
ACCOUNT_EMAIL_SUBJECT_PREFIX = "Sluice: "
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_SESSION_REMEMBER = None
# portal.ratelimits guards these pages; what stays is the pause between two
# confirmation mails, which allauth sends by itself.
ACCOUNT_RATE_LIMITS = dict.fromkeys(
    (
        "login",
        "login_failed",
        "signup",
        "reset_password",
        "reset_password_from_key",
        "change_password",
        "reauthenticate",
        "manage_email",
    )
)

MFA_ADAPTER = "portal.second_factor.MfaAdapter"
MFA_RATE_LIMITS = {"webauthn_login": None}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_FORMS = {
    "authenticate": "portal.second_factor.AuthenticateForm",
    "reauthenticate": "portal.second_factor.ReauthenticateForm",
    "add_webauthn": "portal.account_forms.AddPasskeyForm",
    "edit_webauthn": "portal.account_forms.RenamePasskeyForm",
}
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Sluice"
# Clocks of phones are off by seconds; portal.second_factor takes each code once.
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODES_SHOW_ONCE = True
# Whoever signed up with another's address could lock its owner out by a second factor.
# "mandatory" lets nobody so far, and under "none" nobody confirms anything.
MFA_ALLOW_UNVERIFIED_EMAIL = ACCOUNT_EMAIL_VERIFICATION != "optional"
# Browsers allow passkeys over plain http on localhost only.
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not IS_PRODUCTION

# Providers are rows of tenants.IdentityProvider, and the one of SOCIAL_LOGIN_*.
SOCIALACCOUNT_ADAPTER = "portal.single_sign_on.SocialAccountAdapter"
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {"provider_class": "portal.providers.OpenIdConnect"},
    "saml": {"provider_class": "portal.providers.Saml"},
}
# portal.single_sign_on lets nobody in whose address the provider did not confirm.
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = True
SOCIALACCOUNT_REQUESTS_TIMEOUT = 5
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
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
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
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text(
    "DEFAULT_FROM_EMAIL", "sluice@localhost", owner="config", doc="Sender of the platform's mail."
)

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_COOKIES else 0
SECURE_REFERRER_POLICY = "same-origin"
# Written by TrustedProxyMiddleware only; no header reaches this name.
SECURE_PROXY_SSL_HEADER = ("SLUICE_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

LANGUAGE_CODE = "en"
# A language is a folder in locale/ and a line here, under its own name.
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True

STATIC_URL = "/static/"
# Read before those of the packages: files of theirs that we replace.
STATICFILES_DIRS = [BASE_DIR / "portal" / "static_first"]
STATIC_ROOT = STATE_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if SLUICE_ENV != "test"
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "django",
        "OPTIONS": {"socket_timeout": REDIS_TIMEOUT_S, "socket_connect_timeout": REDIS_TIMEOUT_S},
    }
}
RATELIMIT_FAIL_OPEN = True
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "channels"},
    }
}


def _admin_page(title: str, icon: str, model: str, page: str = "changelist") -> dict[str, object]:
    return {"title": title, "icon": icon, "link": reverse_lazy(f"admin:{model}_{page}")}


UNFOLD = {
    "SITE_TITLE": "Sluice admin",
    "SITE_HEADER": "Sluice",
    "SITE_SUBHEADER": "Staff admin",
    "SITE_SYMBOL": "water",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "portal.staff_dashboard.add_figures",
    # With the tokens and figures of the pages, so that {% tile %}, {% meter %} and {% chart %}
    # work in the staff admin too.
    "STYLES": [
        lambda request: static("portal/tokens.css"),
        lambda request: static("portal/data.css"),
        lambda request: static("portal/admin.css"),
    ],
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("portal/icon.svg"),
        }
    ],
    # The portal's teal (portal/static/portal/tokens.css) as a scale.
    "COLORS": {
        # Its greys too, so that our components and unfold's lie on one ground.
        "base": {
            "50": "#f7f8f9",
            "100": "#f2f4f6",
            "200": "#e4e7ec",
            "300": "#cfd5dd",
            "400": "#8f9aa9",
            "500": "#657081",
            "600": "#4b5563",
            "700": "#39424f",
            "800": "#1f262f",
            "900": "#0c0f13",
            "950": "#080a0d",
        },
        "primary": {
            "50": "#effaf9",
            "100": "#d7f0ee",
            "200": "#b0e1dd",
            "300": "#7cc4be",
            "400": "#4fc1b8",
            "500": "#1f948c",
            "600": "#0f6f6a",
            "700": "#0b5652",
            "800": "#0a4542",
            "900": "#0a3836",
            "950": "#04211f",
        },
    },
    "SIDEBAR": {
        "show_search": True,
        "navigation": [
            {
                "title": "",
                "items": [
                    {
                        "title": "Dashboard",
                        "icon": "monitoring",
                        "link": reverse_lazy("admin:index"),
                    }
                ],
            },
            {
                "title": "Tenants",
                "items": [
                    _admin_page("Organizations", "apartment", "tenants_organization"),
                    _admin_page("Users", "person", "tenants_user"),
                    _admin_page("Members", "group", "tenants_membership"),
                    _admin_page("Invitations", "mail", "tenants_invitation"),
                    _admin_page("API keys", "key", "tenants_apikey"),
                    _admin_page("Service accounts", "smart_toy", "tenants_serviceaccount"),
                    _admin_page("Projects", "folder", "tenants_project"),
                    _admin_page("Groups", "groups", "tenants_group"),
                    _admin_page("Roles", "badge", "tenants_customrole"),
                    _admin_page("Single sign-on", "login", "tenants_identityprovider"),
                    _admin_page("Plans", "sell", "tenants_plan"),
                    _admin_page("Audit trail", "history", "tenants_auditevent"),
                    _admin_page("Jobs", "pending_actions", "tenants_job"),
                    _admin_page("Announcements", "campaign", "tenants_announcement"),
                ],
            },
            {
                "title": "Inference",
                "items": [
                    _admin_page("Fleet", "memory", "inference_replica", "fleet"),
                    _admin_page("Batches", "stacks", "inference_batch"),
                    _admin_page("Files", "draft", "inference_file"),
                    _admin_page("Deployments", "rocket_launch", "inference_deployment"),
                    _admin_page("Routing policies", "alt_route", "inference_routingpolicy"),
                    _admin_page("Models", "neurology", "inference_model"),
                    _admin_page("Versions", "deployed_code", "inference_modelversion"),
                    _admin_page("Aliases", "alternate_email", "inference_modelalias"),
                ],
            },
            {
                "title": "Money",
                "items": [
                    _admin_page("Prices", "payments", "billing_price"),
                    _admin_page("Usage", "monitoring", "billing_usageevent"),
                    _admin_page("Ledger", "account_balance", "billing_ledgertransaction"),
                    _admin_page("Ledger entries", "receipt_long", "billing_ledgerentry"),
                    _admin_page("Rejected reports", "error", "billing_rejectedreport"),
                ],
            },
        ],
    },
}
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Sluice management API",
    "DESCRIPTION": "Organizations managed by programs, in the shape of OpenAI's admin API.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "POSTPROCESSING_HOOKS": ["api.management.schema.add_components"],
}

# --- Celery ------------------------------------------------------------------------------

CELERY_BROKER = CELERY_BROKER_URL or REDIS_URL

# --- Logging: structured, one line an event, never a prompt or a secret ------------------

LOGGING_CONFIG = "config.logging.configure"
LOGGING: dict[str, object] = {"level": LOG_LEVEL, "format": LOG_FORMAT}


def _refuse_insecure_production() -> None:
    """Production does not start on a default that development may have."""
    field_keys = [key.strip() for key in FIELD_ENCRYPTION_KEY.split(",")]
    problems = [
        f"{name} has its development default"
        for name, value in (
            ("SECRET_KEY", SECRET_KEY),
            ("API_KEY_PEPPER", API_KEY_PEPPER),
            ("CACHE_SALT_SECRET", CACHE_SALT_SECRET),
            *(("FIELD_ENCRYPTION_KEY", key) for key in field_keys),
        )
        if value.startswith(INSECURE) or len(value) < 32
    ]
    if len({SECRET_KEY, API_KEY_PEPPER, CACHE_SALT_SECRET, *field_keys}) < 3 + len(field_keys):
        problems.append(
            "SECRET_KEY, API_KEY_PEPPER, CACHE_SALT_SECRET and FIELD_ENCRYPTION_KEY must differ"
        )
    if DEBUG:
        problems.append("DEBUG is on")
    if ENGINE == "simulated":
        problems.append("ENGINE is simulated")
    if not (DATABASE_URL or DATABASE_STAFF_URL):
        problems.append("DATABASE_STAFF_URL is unset, and so is DATABASE_URL")
    if "*" in ALLOWED_HOSTS:
        problems.append("ALLOWED_HOSTS allows any host")
    if not SECURE_COOKIES and urlsplit(SLUICE_URL).hostname != "127.0.0.1":
        problems.append("SECURE_COOKIES is off")
    if problems:
        raise SettingError("Refusing to start in production: " + "; ".join(problems) + ".")


def refuse_owner_in_web_process() -> None:
    """In production the process that strangers reach has the web's and staff's logins only.

    With the owner's, one SQL injection would read every tenant: the owner is not held
    by row-level security. ``config.asgi`` asks; settings do not know what reads them.
    """
    problems = [
        f"{name} is unset"
        for name, value in (
            ("DATABASE_WEB_URL", DATABASE_WEB_URL),
            ("DATABASE_STAFF_URL", DATABASE_STAFF_URL),
        )
        if not value
    ]
    if DATABASE_URL:
        problems.append("DATABASE_URL is set, which is for manage.py only")
    if IS_PRODUCTION and problems:
        raise SettingError("Refusing to serve in production: " + "; ".join(problems) + ".")


def _check_social_login() -> None:
    """All of it or nothing: half a provider would be a button that leads nowhere."""
    given = {
        "SOCIAL_LOGIN_NAME": SOCIAL_LOGIN_NAME,
        "SOCIAL_LOGIN_ISSUER": SOCIAL_LOGIN_ISSUER,
        "SOCIAL_LOGIN_CLIENT_ID": SOCIAL_LOGIN_CLIENT_ID,
        "SOCIAL_LOGIN_CLIENT_SECRET": SOCIAL_LOGIN_CLIENT_SECRET,
    }
    missing = [name for name, value in given.items() if not value]
    if missing and len(missing) < len(given):
        raise SettingError(f"Social log-in is set in part: {', '.join(missing)} is missing.")
    if IS_PRODUCTION and not missing and not SOCIAL_LOGIN_ISSUER.startswith("https://"):
        raise SettingError("SOCIAL_LOGIN_ISSUER must start with https:// in production.")


def _check_outbound() -> None:
    for name in OUTBOUND_PORTS:
        if not (name.isascii() and name.isdigit() and 0 < int(name) < 65536):
            raise SettingError(f"OUTBOUND_PORTS: {name!r} is no port.")
    for name in OUTBOUND_PRIVATE_NETWORKS:
        try:
            ip_network(name)
        except ValueError as error:
            raise SettingError(f"OUTBOUND_PRIVATE_NETWORKS: {error}.") from error


_check_social_login()
_check_outbound()
if HOLD_EXPIRY_S <= REQUEST_TIMEOUT_S:
    raise SettingError(
        "HOLD_EXPIRY_S must be above REQUEST_TIMEOUT_S, or live requests lose their holds."
    )
if IS_PRODUCTION:
    _refuse_insecure_production()
