"""Addresses of the pages; those of accounts and of organizations have files of their own."""

from __future__ import annotations

from django.urls import include, path

from portal import account_urls
from portal.ratelimits import limited
from portal.views import announcements, documents, home, impersonation, joining

urlpatterns = [
    path("", home.home, name="home"),
    path("theme/", home.choose_theme, name="theme"),
    path(
        "organizations/new/",
        limited("organization-create", home.create_organization),
        name="organization_create",
    ),
    # tenants.mail writes the first one's address too; a test holds the two together.
    path(
        "invitations/<str:token>/",
        joining.private(limited("invitation-link", joining.open_link, counts_reading=True)),
        name="invitation_link",
    ),
    path("invitation/", limited("invitation", joining.invitation), name="invitation"),
    path("invitation/switch/", joining.switch_account, name="invitation_switch"),
    path("invitation/dismiss/", joining.dismiss, name="invitation_dismiss"),
    path("impersonation/end/", impersonation.end, name="impersonation_end"),
    path(
        "o/<str:organization_id>/announcements/<int:number>/dismiss/",
        announcements.dismiss,
        name="announcement_dismiss",
    ),
    path("docs/", documents.quick_start, name="docs"),
    path(
        "docs/search/",
        limited("docs-search", documents.search_documents, counts_reading=True),
        name="docs_search",
    ),
    path("docs/<slug:slug>/", documents.show_document, name="document"),
    path("o/<str:organization_id>/", include("portal.organization_urls")),
    *account_urls.urlpatterns,
]
