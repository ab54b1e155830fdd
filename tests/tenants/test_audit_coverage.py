"""Every change leaves an audit event: a new action without a line here fails the suite."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

import tenants.actions
from billing import actions as billing_actions
from billing import credit, spend_alerts
from inference import actions as inference_actions
from inference.answers import actions as answer_actions
from inference.answers import background
from inference.answers.selectors import access_answer
from inference.batches import actions as batch_actions
from inference.files import actions as file_actions
from inference.models import ModelVersion
from tenants import access, actions, audit_rows
from tenants.actions import single_sign_on
from tenants.actions.invitations import invite_member
from tenants.actions.roles import unassign_roles_in_project
from tenants.models import (
    AuditEvent,
    IdentityProvider,
    Membership,
    Plan,
    Role,
    User,
    WebhookDelivery,
    WebhookEndpoint,
)
from tenants.plans import PlanTerms
from tests.cast import PASSWORD, Cast, make_user

ADDRESS = "203.0.113.77"
MODULES = (
    *(f"tenants.actions.{each.name}" for each in pkgutil.iter_modules(tenants.actions.__path__)),
    "billing.actions",
    "billing.credit",
    "billing.recording",
    "billing.spend_alerts",
    "inference.actions",
    "inference.answers.actions",
    "inference.answers.background",
    "inference.batches.actions",
    "inference.files.actions",
    "inference.uploads.actions",
)
# What changes nothing that belongs in the trail, and why.
NOT_AUDITED = {
    "begin_file": "its end is, if it comes",
    "begin_upload": "its end is, if it comes: a file",
    "begin_part": "nobody sees it before the file",
    "finish_part": "nobody sees it before the file",
    "give_up_part": "nobody ever saw it",
    "part_too_large": "pure",
    "begin_completion": "its end is, if it comes: a file",
    "give_back_completion": "nothing came of it",
    "finish_completion": "tells finish_file, which records",
    "cancel_upload": "nobody ever saw it",
    "check_quota": "asks",
    "ask_for_response": "its requests' usage tells of it",
    "keep_answer": "its request's usage tells of it",
    "enqueue_output": "the batch's own end",
    "give_up_file": "nobody ever saw it",
    "stored_bytes": "reads",
    "too_large": "pure",
    "check_gives": "asks",
    "checked_limit": "pure",
    "checked_model_names": "pure",
    "checked_name": "pure",
    "checked_role": "pure",
    "deployment_name": "pure",
    "digest_of": "pure",
    "access_alert": "reads",
    "get_alerts": "reads",
    "get_open_invitation": "reads",
    "key_name_of": "pure",
    "notify_all_changed": "announces",
    "notify_change": "announces",
    "notify_prices_changed": "announces",
    "notify_registry_changed": "announces",
    "record_change": "is what records",
    "record_usage": "its rows are append-only themselves",
    "reject_reports": "its rows are append-only themselves",
    "touch_api_keys": "each request's time, which usage tells exactly",
}


@dataclass
class World:
    """The cast, and one of each thing that an action changes."""

    cast: Cast

    def __post_init__(self) -> None:
        self.organization, self.project = self.cast.organization, self.cast.project
        self.by = {"acting_user": self.cast.owner, "address": ADDRESS}
        owner = Membership.objects.get(organization=self.organization, user=self.cast.owner)
        self.actor = access.get_actor(owner)
        self.as_actor: dict[str, Any] = {"actor": self.actor, "address": ADDRESS}

    def answer(self) -> Any:
        return answer_actions.keep_answer(
            self.project, api_key=self.cast.owner_api_key, kind="chat.completion", public_id="c",
            model="m", content={"messages": [], "completion": {}},
        )  # fmt: skip

    def queued(self) -> Any:
        response = {"id": "resp_q", "model": "m", "status": "queued", "background": True}
        background.ask_for_response(
            self.project, api_key=self.cast.owner_api_key, response=response, items=[],
            request={}, has_log=False, metadata=None, previous="",
        )  # fmt: skip
        return access_answer(self.project, "response", "resp_q")

    def begun_file(self) -> Any:
        return file_actions.begin_file(
            self.project, reserved_bytes=1, api_key=self.cast.owner_api_key, purpose="batch"
        )

    def finish_file(self, file: Any) -> Any:
        return file_actions.finish_file(
            file, filename="x", size=1, sha256="", expires_at=None, **self.by
        )

    def batch(self, file: Any) -> Any:
        return batch_actions.create_batch(
            self.project, api_key=self.cast.owner_api_key, input_file=file.public_id,
            endpoint="/v1/embeddings", **self.by,
        )  # fmt: skip

    def membership(self) -> Membership:
        return Membership.objects.get(organization=self.organization, user=self.cast.viewer)

    def group(self) -> Any:
        return actions.create_group(self.organization, "G", acting_user=None)

    def role(self) -> Any:
        return actions.create_role(self.organization, "R", ["usage.read"], actor=self.actor)

    def project_member(self) -> Any:
        return actions.add_project_member(
            self.project, self.cast.viewer, "viewer", acting_user=None
        )

    def account(self) -> Any:
        return actions.create_service_account(self.project, "S", acting_user=None)

    def invitation(self) -> tuple[Any, str]:
        return invite_member(self.organization, "guest@example.com", "viewer", actor=self.actor)

    def provider(self) -> IdentityProvider:
        return IdentityProvider.objects.create(
            organization=self.organization, protocol="openid_connect", slug="acme", name="Acme",
            client_id="x", settings={}, verified_domains=["example.com"],
        )  # fmt: skip

    def provider_terms(self) -> single_sign_on.ProviderTerms:
        settings = {"issuer": "https://id.example.com"}
        return single_sign_on.ProviderTerms(name="Acme", settings=settings, client_id="x")

    def spend_alert(self) -> Any:
        terms = spend_alerts.AlertTerms(1, ("a@example.com",))
        return spend_alerts.create_spend_alert(self.organization, None, terms, acting_user=None)

    def webhook(self) -> WebhookEndpoint:
        terms = actions.EndpointTerms("https://hooks.example.com/", ("batch.completed",))
        return actions.create_webhook(self.organization, terms, acting_user=None)[0]

    def ended_delivery(self) -> WebhookDelivery:
        endpoint = self.webhook()
        delivery = actions.send_test_event(endpoint, acting_user=None)
        delivery.state, delivery.ended_at = WebhookDelivery.State.FAILED, timezone.now()
        delivery.save()
        return delivery

    def in_group(self) -> Any:
        return actions.add_group_member(self.group(), self.cast.viewer, actor=self.actor)

    def group_in_project(self) -> Any:
        group = self.group()
        actions.assign_role(self.role(), group, project=self.project, actor=self.actor)
        return group


# Each prepares what it needs and returns the one call that must leave an event.
CASES: dict[str, Callable[[World], Callable[[], Any]]] = {
    "finish_file": lambda w: bound(w.finish_file, w.begun_file()),
    "delete_file": lambda w: bound(
        file_actions.delete_file, w.finish_file(w.begun_file()), **w.by
    ),
    "change_metadata": lambda w: bound(answer_actions.change_metadata, w.answer(), {}, **w.by),
    "delete_answer": lambda w: bound(answer_actions.delete_answer, w.answer(), **w.by),
    "cancel_response": lambda w: bound(background.cancel_response, w.queued(), **w.by),
    "create_batch": lambda w: bound(w.batch, w.finish_file(w.begun_file())),
    "cancel_batch": lambda w: bound(
        batch_actions.cancel_batch, w.batch(w.finish_file(w.begun_file())), **w.by
    ),
    "create_spend_alert": lambda w: bound(
        spend_alerts.create_spend_alert, w.organization, None,
        spend_alerts.AlertTerms(1, ("a@example.com",)), **w.by,
    ),
    "update_spend_alert": lambda w: bound(
        spend_alerts.update_spend_alert, w.spend_alert(),
        spend_alerts.AlertTerms(2, ("a@example.com",)), **w.by,
    ),
    "delete_spend_alert": lambda w: bound(
        spend_alerts.delete_spend_alert, w.spend_alert(), **w.by
    ),
    "create_webhook": lambda w: bound(
        actions.create_webhook, w.organization,
        actions.EndpointTerms("https://hooks.example.com/", ("batch.completed",)), **w.by,
    ),
    "update_webhook": lambda w: bound(
        actions.update_webhook, w.webhook(),
        actions.EndpointTerms("https://hooks.example.com/", ("batch.failed",)), **w.by,
    ),
    "rotate_webhook_secret": lambda w: bound(
        actions.rotate_webhook_secret, w.webhook(), **w.by
    ),
    "send_test_event": lambda w: bound(actions.send_test_event, w.webhook(), **w.by),
    "replay_delivery": lambda w: bound(actions.replay_delivery, w.ended_delivery(), **w.by),
    "delete_webhook": lambda w: bound(actions.delete_webhook, w.webhook(), **w.by),
    "create_group": lambda w: lambda: actions.create_group(w.organization, "G", **w.by),
    "rename_group": lambda w: bound(actions.rename_group, w.group(), "H", **w.by),
    "delete_group": lambda w: bound(actions.delete_group, w.group(), **w.as_actor),
    "add_group_member": lambda w: bound(
        actions.add_group_member, w.group(), w.cast.viewer, **w.as_actor
    ),
    "remove_group_member": lambda w: bound(actions.remove_group_member, w.in_group(), **w.as_actor),
    "invite_member": lambda w: bound(
        invite_member, w.organization, "guest@example.com", "viewer", **w.as_actor
    ),
    "revoke_invitation": lambda w: bound(actions.revoke_invitation, w.invitation()[0], **w.by),
    "accept_invitation": lambda w: bound(
        actions.accept_invitation, w.invitation()[1], user=make_user("guest"), address=ADDRESS
    ),
    "create_api_key": lambda w: bound(actions.create_api_key, w.project, "K", **w.by),
    "update_api_key": lambda w: bound(
        actions.update_api_key, w.cast.owner_api_key, name="K", **w.by
    ),
    "rotate_api_key": lambda w: bound(actions.rotate_api_key, w.cast.owner_api_key, **w.by),
    "set_api_key_suspended": lambda w: bound(
        actions.set_api_key_suspended, w.cast.owner_api_key, True, **w.by
    ),
    "revoke_api_key": lambda w: bound(actions.revoke_api_key, w.cast.owner_api_key, **w.by),
    "add_member": lambda w: bound(
        actions.add_member, w.organization, w.cast.stranger, "viewer", **w.as_actor
    ),
    "change_member_role": lambda w: bound(
        actions.change_member_role, w.membership(), Role.ADMIN, **w.as_actor
    ),
    "remove_member": lambda w: bound(actions.remove_member, w.membership(), **w.as_actor),
    "create_organization": lambda w: bound(actions.create_organization, "New", **w.by),
    "set_organization_suspended": lambda w: bound(
        actions.set_organization_suspended, w.organization, True, **w.by
    ),
    "set_spend_limit": lambda w: bound(actions.set_spend_limit, w.organization, 5, **w.by),
    "update_organization": lambda w: bound(
        actions.update_organization, w.organization, {"name": "New"}, **w.by
    ),
    "create_plan": lambda w: bound(actions.create_plan, PlanTerms("p", "P"), **w.by),
    "ensure_default_plans": lambda w: without_plans(
        bound(actions.ensure_default_plans, acting_user=w.cast.owner)
    ),
    "create_project": lambda w: bound(actions.create_project, w.organization, "P", **w.by),
    "update_project": lambda w: bound(actions.update_project, w.project, {"name": "P"}, **w.by),
    "archive_project": lambda w: bound(actions.archive_project, w.project, **w.by),
    "set_project_model_limit": lambda w: bound(
        actions.set_project_model_limit, w.project, "m", {"requests_per_day": 1}, **w.by
    ),
    "add_project_member": lambda w: bound(
        actions.add_project_member, w.project, w.cast.viewer, "member", **w.by
    ),
    "change_project_member": lambda w: bound(
        actions.change_project_member, w.project_member(), "member", **w.by
    ),
    "remove_project_member": lambda w: bound(
        actions.remove_project_member, w.project_member(), **w.by
    ),
    "create_role": lambda w: bound(
        actions.create_role, w.organization, "R", ["usage.read"], **w.as_actor
    ),
    "update_role": lambda w: bound(actions.update_role, w.role(), name="S", **w.as_actor),
    "delete_role": lambda w: bound(actions.delete_role, w.role(), **w.as_actor),
    "assign_role": lambda w: bound(actions.assign_role, w.role(), w.cast.viewer, **w.as_actor),
    "unassign_role": lambda w: bound(
        actions.unassign_role,
        actions.assign_role(w.role(), w.cast.viewer, actor=w.actor),
        **w.as_actor,
    ),
    "unassign_roles_in_project": lambda w: bound(
        unassign_roles_in_project, w.group_in_project(), w.project, **w.as_actor
    ),
    "create_service_account": lambda w: bound(
        actions.create_service_account, w.project, "S", **w.by
    ),
    "create_service_account_with_key": lambda w: bound(
        tenants.actions.service_accounts.create_service_account_with_key, w.project, "S", **w.by
    ),
    "rename_service_account": lambda w: bound(
        tenants.actions.service_accounts.rename_service_account, w.account(), "T", **w.by
    ),
    "delete_service_account": lambda w: bound(actions.delete_service_account, w.account(), **w.by),
    "create_identity_provider": lambda w: bound(
        single_sign_on.create_identity_provider, w.organization, "openid_connect", "acme",
        w.provider_terms(), **w.as_actor,
    ),
    "update_identity_provider": lambda w: bound(
        single_sign_on.update_identity_provider, w.provider(), w.provider_terms(), **w.as_actor
    ),
    "delete_identity_provider": lambda w: bound(
        single_sign_on.delete_identity_provider, w.provider(), **w.as_actor
    ),
    "verify_domains": lambda w: bound(
        single_sign_on.verify_domains, w.provider(), ["acme.example"], acting_user=w.cast.staff,
        address=ADDRESS,
    ),
    "join_by_provider": lambda w: bound(
        single_sign_on.join_by_provider, w.provider(), user=make_user("guest"), address=ADDRESS
    ),
    "create_staff_user": lambda w: bound(
        actions.create_staff_user, "new@example.com", PASSWORD, **w.by
    ),
    "add_price": lambda w: bound(
        billing_actions.add_price, "m", input_micros_per_million=1,
        cached_input_micros_per_million=1, output_micros_per_million=1, **w.by,
    ),
    "grant_credit": lambda w: bound(
        credit.grant_credit, w.organization, 1, reference="r", reason="Why", **w.by
    ),
    "register_version": lambda w: bound(register_version, w),
    "forget_answers": lambda w: bound(inference_actions.forget_answers, w.organization, **w.by),
    "create_deployment": lambda w: bound(
        inference_actions.create_deployment, register_version(w), **w.by
    ),
}  # fmt: skip
# Made by commands, which call from no address.
WITHOUT_ADDRESS = {"ensure_default_plans", "register_version"}


def bound(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
    return lambda: function(*args, **kwargs)


def without_plans(call: Callable[[], Any]) -> Callable[[], Any]:
    """As in an installation that has no plan yet; the cast's organizations need theirs."""

    def run() -> None:
        Plan.objects.update(is_default=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(Plan.objects), "exists", lambda _self: False, raising=False)
            call()

    return run


def register_version(world: World) -> ModelVersion:
    weights = inference_actions.Weights("pypi://x", "x", "0" * 64, "bfloat16", 2048)
    return inference_actions.register_version(
        "m", "1", weights, kind="chat", pulled_at=timezone.now() - timedelta(hours=1),
        acting_user=world.cast.owner,
    )  # fmt: skip


def public_functions() -> set[str]:
    names = set()
    for path in MODULES:
        for name, value in vars(importlib.import_module(path)).items():
            is_own = inspect.isfunction(value) and value.__module__ == path
            if is_own and not name.startswith("_"):
                names.add(name)
    return names


def test_every_action_is_here_and_nothing_else() -> None:
    assert public_functions() == set(CASES) | set(NOT_AUDITED)
    assert not set(CASES) & set(NOT_AUDITED)


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_action_leaves_an_event(cast: Cast, name: str) -> None:
    call = CASES[name](World(cast))
    last = AuditEvent.objects.latest("pk").pk
    call()

    events = list(AuditEvent.objects.filter(pk__gt=last))
    assert events
    people = {cast.owner, cast.staff, *User.objects.filter(email="guest@example.com")}
    for event in events:
        assert event.acting_user in people
        assert event.address == (None if name in WITHOUT_ADDRESS else ADDRESS)
        assert event.object_type and event.object_id
        assert event.before or event.after
        assert event.number and event.hash
        told = str(event.before) + str(event.after)
        assert PASSWORD not in told and "secret_hmac" not in told
    of_organization = [event for event in events if event.organization is not None]
    for event in of_organization:
        walk = audit_rows.ChainVerification(audit_rows.read_chain(event.organization_id))
        assert not list(walk.findings())
