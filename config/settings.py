"""Django's settings, and the rules that what an operator set must keep.

What can be set is in ``config.variables``. With ``SLUICE_ENV=production`` the process refuses to
start with a development value.
"""

from ipaddress import ip_network
from urllib.parse import unquote, urlsplit

from config import staff_admin
from config.env import SettingError
from config.variables import *  # Django reads settings from one module

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
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
EMAIL_TIMEOUT = 10

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

UNFOLD = staff_admin.UNFOLD
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
