"""Addresses below ``/o/<organization>/``, in the order of the navigation."""

from __future__ import annotations

from django.urls import path

from portal.ratelimits import limited
from portal.views import (
    admin_keys,
    audit,
    batches,
    caching,
    files,
    find,
    first_call,
    groups,
    home,
    invitations,
    key_changes,
    keys,
    limits,
    members,
    models,
    organization,
    playground,
    playground_tickets,
    project_people,
    projects,
    requests,
    roles,
    usage,
    webhooks,
)

of_keys = [
    path("keys/", keys.list_keys, name="keys"),
    path("keys/new/", limited("key-create", keys.create_key), name="key_create"),
    path("keys/<str:key_id>/", keys.show_key, name="key"),
    path("keys/<str:key_id>/first-call/", first_call.show_first_call, name="first_call"),
    path("keys/<str:key_id>/edit/", key_changes.edit_key, name="key_edit"),
    path(
        "keys/<str:key_id>/rotate/",
        limited("key-create", key_changes.rotate_key),
        name="key_rotate",
    ),
    path("keys/<str:key_id>/suspend/", key_changes.suspend_key, name="key_suspend"),
    path("keys/<str:key_id>/restore/", key_changes.restore_key, name="key_restore"),
    path("keys/<str:key_id>/revoke/", key_changes.revoke_key, name="key_revoke"),
]

# The token path's own, for pages that call models.
of_playground = [
    path("playground/", playground.show_playground, name="playground"),
    path("playground/tickets/", playground_tickets.issue_ticket, name="playground_tickets"),
    path("playground/<slug:mode>/", playground.show_playground, name="playground_mode"),
]

of_models = [
    path("models/", models.list_models, name="models"),
    # A model's name may have slashes.
    path("models/<path:model_name>/", models.show_model, name="model"),
]

_FILE = "files/<str:file_id>/"
_BATCH = "batches/<str:batch_id>/"
of_files = [
    path("files/", files.list_files, name="files"),
    path("files/upload/", limited("file-upload", files.upload_file), name="file_upload"),
    path(_FILE, files.show_file, name="file"),
    path(f"{_FILE}content/", files.download_file, name="file_content"),
    path(f"{_FILE}delete/", files.delete_file, name="file_delete"),
    path("batches/", batches.list_batches, name="batches"),
    path("batches/new/", limited("object-create", batches.create_batch), name="batch_create"),
    path(_BATCH, batches.show_batch, name="batch"),
    path(f"{_BATCH}progress/", batches.show_progress, name="batch_progress"),
    path(f"{_BATCH}cancel/", batches.cancel_batch, name="batch_cancel"),
]

# A request's address ends in its id, so what is no id stands before it.
of_usage = [
    path("usage/", usage.usage, name="usage"),
    path("usage/limits/", limits.limits, name="limits"),
    path("usage/requests/", requests.list_requests, name="requests"),
    path("usage/requests/export.csv", requests.export_csv, name="requests_csv"),
    path("usage/requests/<str:request_id>/", requests.show_request, name="request"),
    path("live/", requests.live_panel, name="live"),
]

of_projects = [
    path("projects/", projects.list_projects, name="projects"),
    path("projects/new/", limited("object-create", projects.create_project), name="project_create"),
    path("projects/<str:project_id>/", projects.show_project, name="project"),
    path("projects/<str:project_id>/edit/", projects.edit_project, name="project_edit"),
    path("projects/<str:project_id>/limits/", projects.edit_limits, name="project_limits"),
    path(
        "projects/<str:project_id>/model-limits/",
        projects.edit_model_limits,
        name="project_model_limits",
    ),
    path("projects/<str:project_id>/archive/", projects.archive_project, name="project_archive"),
    path(
        "projects/<str:project_id>/members/add/",
        project_people.add_member,
        name="project_member_add",
    ),
    path(
        "projects/<str:project_id>/members/<str:user_id>/",
        project_people.change_member,
        name="project_member",
    ),
    path(
        "projects/<str:project_id>/members/<str:user_id>/remove/",
        project_people.remove_member,
        name="project_member_remove",
    ),
    path(
        "projects/<str:project_id>/service-accounts/new/",
        limited("object-create", project_people.create_service_account),
        name="service_account_create",
    ),
    path(
        "projects/<str:project_id>/service-accounts/<str:account_id>/delete/",
        project_people.delete_service_account,
        name="service_account_delete",
    ),
]

of_members = [
    path("members/", members.list_members, name="members"),
    path("members/invite/", limited("invite", invitations.invite), name="invite"),
    path("members/leave/", members.leave, name="leave"),
    path("members/<str:user_id>/", members.show_member, name="member"),
    path("members/<str:user_id>/remove/", members.remove_member, name="member_remove"),
    path(
        "invitations/<str:invitation_id>/resend/",
        limited("invite", invitations.resend),
        name="invitation_resend",
    ),
    path("invitations/<str:invitation_id>/revoke/", invitations.revoke, name="invitation_revoke"),
    path("groups/", groups.list_groups, name="groups"),
    path("groups/new/", limited("object-create", groups.create_group), name="group_create"),
    path("groups/<str:group_id>/", groups.show_group, name="group"),
    path("groups/<str:group_id>/rename/", groups.rename_group, name="group_rename"),
    path("groups/<str:group_id>/delete/", groups.delete_group, name="group_delete"),
    path(
        "groups/<str:group_id>/members/<str:user_id>/remove/",
        groups.remove_group_member,
        name="group_member_remove",
    ),
    path("roles/", roles.list_roles, name="roles"),
    path("roles/new/", limited("object-create", roles.create_role), name="role_create"),
    path("roles/<str:role_id>/", roles.show_role, name="role"),
    path("roles/<str:role_id>/edit/", roles.edit_role, name="role_edit"),
    path("roles/<str:role_id>/delete/", roles.delete_role, name="role_delete"),
    path(
        "roles/<str:role_id>/unassign/<int:assignment_id>/",
        roles.unassign_role,
        name="role_unassign",
    ),
]

of_settings = [
    path("audit/", audit.audit_log, name="audit"),
    path("audit/export.csv", audit.export_csv, name="audit_csv"),
    path("audit/export.jsonl", audit.export_json_lines, name="audit_json_lines"),
    path("settings/", organization.organization_settings, name="settings"),
    path(
        "settings/second-factor/",
        limited("second-factor-rule", organization.require_second_factor),
        name="settings_second_factor",
    ),
    path("settings/caching/", caching.caching, name="caching"),
    path(
        "settings/caching/forget/",
        limited("cache-forget", caching.forget_answers),
        name="caching_forget",
    ),
    path("settings/admin-keys/", admin_keys.list_admin_keys, name="admin_keys"),
    path(
        "settings/admin-keys/new/",
        limited("key-create", admin_keys.create_admin_key),
        name="admin_key_create",
    ),
]

_WEBHOOK = "settings/webhooks/<str:webhook_id>/"
_DELIVERY = f"{_WEBHOOK}deliveries/<str:delivery_id>/"
of_webhooks = [
    path("settings/webhooks/", webhooks.list_webhooks, name="webhooks"),
    path(
        "settings/webhooks/new/",
        limited("object-create", webhooks.create_webhook),
        name="webhook_create",
    ),
    path(_WEBHOOK, webhooks.show_webhook, name="webhook"),
    path(f"{_WEBHOOK}edit/", limited("webhook-change", webhooks.edit_webhook), name="webhook_edit"),
    path(
        f"{_WEBHOOK}switch/",
        limited("webhook-change", webhooks.switch_webhook),
        name="webhook_switch",
    ),
    path(
        f"{_WEBHOOK}rotate/", limited("key-create", webhooks.rotate_webhook), name="webhook_rotate"
    ),
    path(f"{_WEBHOOK}delete/", webhooks.delete_webhook, name="webhook_delete"),
    path(f"{_WEBHOOK}test/", limited("webhook-send", webhooks.send_test), name="webhook_test"),
    path(_DELIVERY, webhooks.show_delivery, name="webhook_delivery"),
    path(
        f"{_DELIVERY}replay/",
        limited("webhook-send", webhooks.replay_delivery),
        name="webhook_replay",
    ),
]

urlpatterns = [
    path("", home.overview, name="overview"),
    path("find/", limited("find", find.find, counts_reading=True), name="find"),
    *of_keys,
    *of_usage,
    *of_models,
    *of_files,
    *of_projects,
    *of_playground,
    *of_members,
    *of_settings,
    *of_webhooks,
]
