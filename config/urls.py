"""Pages for people and for staff; the token path never reaches these."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from portal.views import design

# Staff log in where everybody does: one form, one rate limit, one password policy.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns: list[URLPattern | URLResolver] = [
    # Before the admin, which answers for everything below its address.
    path("admin/design/", admin.site.admin_view(design.gallery), name="design"),
    path("admin/", admin.site.urls),
    path("", include("api.urls")),
    path("", include("portal.urls")),
]

handler400 = "portal.views.errors.bad_request"
handler403 = "portal.views.errors.permission_denied"
handler404 = "portal.views.errors.not_found"
handler500 = "portal.views.errors.server_error"
