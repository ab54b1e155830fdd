"""How the staff admin looks, and what its sidebar leads to (django-unfold)."""

from django.templatetags.static import static
from django.urls import reverse_lazy


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
