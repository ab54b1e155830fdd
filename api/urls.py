"""Addresses of the management API. The token path's are in ``api.asgi``."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, re_path, register_converter
from django.urls.converters import StringConverter

from api.management import pages
from api.management.admin_api_keys import views as admin_api_keys
from api.management.project_api_keys import views as project_api_keys
from api.management.projects import views as projects
from api.management.users import views as users


class IdConverter(StringConverter):
    """What an identifier can look like: no slash, no control character, of any kind."""

    regex = r"[A-Za-z0-9_.-]{1,64}"


register_converter(IdConverter, "id")

ORGANIZATION = "v1/organization"
PROJECT = f"{ORGANIZATION}/projects/<id:project_id>"

urlpatterns: list[URLPattern | URLResolver] = [
    path(f"{ORGANIZATION}/openapi.json", pages.openapi, name="management_openapi"),
    path(f"{ORGANIZATION}/projects", projects.Projects.as_view()),
    path(PROJECT, projects.OneProject.as_view()),
    path(f"{PROJECT}/archive", projects.ArchivedProject.as_view()),
    path(f"{PROJECT}/api_keys", project_api_keys.ProjectApiKeys.as_view()),
    path(f"{PROJECT}/api_keys/<id:key_id>", project_api_keys.OneProjectApiKey.as_view()),
    path(
        f"{PROJECT}/api_keys/<id:key_id>/rotate",
        project_api_keys.ProjectApiKeyRotation.as_view(),
    ),
    path(f"{ORGANIZATION}/users", users.Users.as_view()),
    path(f"{ORGANIZATION}/users/<id:user_id>", users.OneUser.as_view()),
    path(f"{ORGANIZATION}/admin_api_keys", admin_api_keys.AdminApiKeys.as_view()),
    path(f"{ORGANIZATION}/admin_api_keys/<id:key_id>", admin_api_keys.OneAdminApiKey.as_view()),
    path(
        f"{ORGANIZATION}/admin_api_keys/<id:key_id>/rotate",
        admin_api_keys.AdminApiKeyRotation.as_view(),
    ),
    path("docs/management/", pages.browse, name="management_docs"),
    # Last: what is not above does not exist.
    re_path(r"^v1/(?:organization|projects)(?:/.*)?$", pages.unknown),
]
