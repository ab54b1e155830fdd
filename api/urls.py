"""Addresses of the management API and of the document. The token path's are in ``api.asgi``."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, re_path, register_converter
from django.urls.converters import StringConverter

from api.document import pages as document_pages
from api.management import pages
from api.management.admin_api_keys import views as admin_api_keys
from api.management.audit_logs import views as audit_logs
from api.management.caching import views as caching
from api.management.costs import views as costs
from api.management.groups import views as groups
from api.management.invites import views as invites
from api.management.model_permissions import views as model_permissions
from api.management.project_api_keys import views as project_api_keys
from api.management.project_groups import views as project_groups
from api.management.project_users import views as project_users
from api.management.projects import views as projects
from api.management.rate_limits import views as rate_limits
from api.management.roles import assignments
from api.management.roles import views as roles
from api.management.service_accounts import views as service_accounts
from api.management.spend_alerts import views as spend_alerts
from api.management.spend_limits import views as spend_limits
from api.management.unsupported import UNSUPPORTED
from api.management.usage import views as usage
from api.management.users import views as users
from api.management.webhooks import views as webhooks


class IdConverter(StringConverter):
    """What an identifier can look like: no slash, no control character, of any kind."""

    regex = r"[A-Za-z0-9_.-]{1,64}"


class ModelConverter(StringConverter):
    """A rate limit's: it holds a model's name, which may have slashes."""

    regex = r"[A-Za-z0-9_.:/-]{1,128}"


class EmptyUsageConverter(StringConverter):
    """The kinds of usage that there is none of."""

    regex = (
        "moderations|images|audio_speeches|audio_transcriptions|vector_stores|decisions"
        "|code_interpreter_sessions|file_search_calls|web_search_calls"
    )


register_converter(IdConverter, "id")
register_converter(ModelConverter, "model")
register_converter(EmptyUsageConverter, "empty_usage")

ORGANIZATION = "v1/organization"
PROJECT = f"{ORGANIZATION}/projects/<id:project_id>"
# Where OpenAI's clients look for a project's roles.
ROLES_OF_PROJECT = "v1/projects/<id:project_id>"
KEYS = f"{PROJECT}/api_keys"
ACCOUNTS = f"{PROJECT}/service_accounts"

_PROJECTS: list[URLPattern | URLResolver] = [
    path(f"{ORGANIZATION}/projects", projects.Projects.as_view()),
    path(PROJECT, projects.OneProject.as_view()),
    path(f"{PROJECT}/archive", projects.ArchivedProject.as_view()),
    path(f"{PROJECT}/users", project_users.ProjectUsers.as_view()),
    path(f"{PROJECT}/users/<id:user_id>", project_users.OneProjectUser.as_view()),
    path(KEYS, project_api_keys.ProjectApiKeys.as_view()),
    path(f"{KEYS}/<id:key_id>", project_api_keys.OneProjectApiKey.as_view()),
    path(f"{KEYS}/<id:key_id>/rotate", project_api_keys.ProjectApiKeyRotation.as_view()),
    path(ACCOUNTS, service_accounts.ServiceAccounts.as_view()),
    path(f"{ACCOUNTS}/<id:account_id>", service_accounts.OneServiceAccount.as_view()),
    path(f"{ACCOUNTS}/<id:account_id>/api_keys", service_accounts.ServiceAccountKeys.as_view()),
    path(f"{PROJECT}/rate_limits", rate_limits.RateLimits.as_view()),
    path(f"{PROJECT}/rate_limits/<model:rate_limit_id>", rate_limits.OneRateLimit.as_view()),
    path(f"{PROJECT}/model_permissions", model_permissions.ProjectModelPermissions.as_view()),
    path(f"{PROJECT}/spend_limit", spend_limits.ProjectSpendLimit.as_view()),
    path(f"{PROJECT}/spend_alerts", spend_alerts.ProjectSpendAlerts.as_view()),
    path(f"{PROJECT}/spend_alerts/<id:alert_id>", spend_alerts.OneProjectSpendAlert.as_view()),
    path(f"{PROJECT}/groups", project_groups.ProjectGroups.as_view()),
    path(f"{PROJECT}/groups/<id:group_id>", project_groups.OneProjectGroup.as_view()),
]
_PEOPLE: list[URLPattern | URLResolver] = [
    path(f"{ORGANIZATION}/users", users.Users.as_view()),
    path(f"{ORGANIZATION}/users/<id:user_id>", users.OneUser.as_view()),
    path(f"{ORGANIZATION}/invites", invites.Invites.as_view()),
    path(f"{ORGANIZATION}/invites/<id:invite_id>", invites.OneInvite.as_view()),
    path(f"{ORGANIZATION}/groups", groups.Groups.as_view()),
    path(f"{ORGANIZATION}/groups/<id:group_id>", groups.OneGroup.as_view()),
    path(f"{ORGANIZATION}/groups/<id:group_id>/users", groups.GroupUsers.as_view()),
    path(f"{ORGANIZATION}/groups/<id:group_id>/users/<id:user_id>", groups.OneGroupUser.as_view()),
]
_WEBHOOK = f"{ORGANIZATION}/webhooks/<id:webhook_id>"
_WEBHOOKS: list[URLPattern | URLResolver] = [
    path(f"{ORGANIZATION}/webhooks", webhooks.Webhooks.as_view()),
    path(_WEBHOOK, webhooks.OneWebhook.as_view()),
    path(f"{_WEBHOOK}/rotate_secret", webhooks.WebhookRotation.as_view()),
    path(f"{_WEBHOOK}/test", webhooks.WebhookTest.as_view()),
    path(f"{_WEBHOOK}/deliveries", webhooks.WebhookDeliveries.as_view()),
    path(f"{_WEBHOOK}/deliveries/<id:delivery_id>", webhooks.OneWebhookDelivery.as_view()),
    path(f"{_WEBHOOK}/deliveries/<id:delivery_id>/replay", webhooks.WebhookReplay.as_view()),
]


def _roles(
    root: str, holders: tuple[type, type, type, type], own: tuple[type, type]
) -> list[URLPattern]:
    """Roles of one reach and who has them: everywhere, or in a project."""
    addresses = (
        "users/<id:user_id>/roles",
        "users/<id:user_id>/roles/<id:role_id>",
        "groups/<id:group_id>/roles",
        "groups/<id:group_id>/roles/<id:role_id>",
    )
    views = zip(("roles", "roles/<id:role_id>", *addresses), (*own, *holders), strict=True)
    return [path(f"{root}/{address}", view.as_view()) for address, view in views]  # type: ignore[attr-defined]


urlpatterns: list[URLPattern | URLResolver] = [
    path(f"{ORGANIZATION}/openapi.json", pages.openapi, name="management_openapi"),
    *_PROJECTS,
    *_PEOPLE,
    *_roles(
        ORGANIZATION,
        (
            assignments.UserRoles,
            assignments.OneUserRole,
            assignments.GroupRoles,
            assignments.OneGroupRole,
        ),
        (roles.Roles, roles.OneRole),
    ),
    *_roles(
        ROLES_OF_PROJECT,
        (
            assignments.ProjectUserRoles,
            assignments.OneProjectUserRole,
            assignments.ProjectGroupRoles,
            assignments.OneProjectGroupRole,
        ),
        (roles.ProjectRoles, roles.OneProjectRole),
    ),
    path(f"{ORGANIZATION}/admin_api_keys", admin_api_keys.AdminApiKeys.as_view()),
    path(f"{ORGANIZATION}/admin_api_keys/<id:key_id>", admin_api_keys.OneAdminApiKey.as_view()),
    path(
        f"{ORGANIZATION}/admin_api_keys/<id:key_id>/rotate",
        admin_api_keys.AdminApiKeyRotation.as_view(),
    ),
    path(f"{ORGANIZATION}/caching", caching.Caching.as_view()),
    path(f"{ORGANIZATION}/caching/report", caching.CachingPotential.as_view()),
    path(f"{ORGANIZATION}/caching/forget", caching.CachedAnswers.as_view()),
    path(f"{ORGANIZATION}/audit_logs", audit_logs.AuditLogs.as_view()),
    path(f"{ORGANIZATION}/usage/completions", usage.CompletionsUsageView.as_view()),
    path(f"{ORGANIZATION}/usage/embeddings", usage.EmbeddingsUsageView.as_view()),
    path(f"{ORGANIZATION}/usage/<empty_usage:kind>", usage.OtherUsageView.as_view()),
    path(f"{ORGANIZATION}/costs", costs.CostsView.as_view()),
    path(f"{ORGANIZATION}/spend_limit", spend_limits.OrganizationSpendLimit.as_view()),
    path(f"{ORGANIZATION}/spend_alerts", spend_alerts.OrganizationSpendAlerts.as_view()),
    path(
        f"{ORGANIZATION}/spend_alerts/<id:alert_id>",
        spend_alerts.OneOrganizationSpendAlert.as_view(),
    ),
    *_WEBHOOKS,
    *(path(f"{ORGANIZATION}/{address}", view) for address, view in UNSUPPORTED),
    path("v1/openapi.json", document_pages.openapi, name="openapi"),
    path("docs/api/", document_pages.browse, name="api_docs"),
    path("docs/management/", document_pages.browse_management),
    # Last: what is not above does not exist, whatever characters it has, line ends too.
    re_path(r"^v1/(?:organization|projects)(?:/(?s:.*))?\Z", pages.unknown),
]
