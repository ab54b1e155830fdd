"""Staff pages for models, versions and deployments, and the replicas' live state."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from redis.exceptions import RedisError
from unfold.admin import TabularInline
from unfold.decorators import action, display

from inference import actions, replicas
from inference.dispatch.live import get_live_views
from inference.errors import FleetUnreachable
from inference.models import (
    Deployment,
    Model,
    ModelAlias,
    ModelVersion,
    Replica,
    RoutingPolicy,
)
from tenants.models import Organization
from tenants.staff import AuditedAdmin, ReadOnlyAdmin, address_of, confirm_page, staff_user

# The page of live state reloads itself; heartbeats come every half second.
REFRESH_S = 5
FLEET = "admin:inference_replica_fleet"


class RegistryAdmin(AuditedAdmin):
    """Gateways keep the registry in memory; a change tells them to read it again."""

    def announce(self) -> None:
        actions.notify_registry_changed()


class ModelAliasInline(TabularInline):  # type: ignore[misc]
    model = ModelAlias
    extra = 0


@admin.register(Model)
class ModelPage(RegistryAdmin):
    list_display = ("name", "kind", "owned_by", "is_enabled", "fallback", "created_at")
    list_select_related = ("fallback",)
    list_filter = ("kind", "is_enabled")
    search_fields = ("name", "description")
    autocomplete_fields = ("fallback",)
    inlines = (ModelAliasInline,)


@admin.register(ModelAlias)
class ModelAliasPage(RegistryAdmin):
    list_display = ("name", "model")
    list_select_related = ("model",)
    search_fields = ("name", "model__name")
    autocomplete_fields = ("model",)


@admin.register(ModelVersion)
class ModelVersionPage(RegistryAdmin):
    list_display = (
        "version",
        "model",
        "dtype",
        "max_context_tokens",
        "source_uri",
        "pulled_at",
    )
    list_select_related = ("model",)
    list_filter = ("model__kind",)
    search_fields = ("model__name", "version", "sha256")
    autocomplete_fields = ("model",)
    # What `manage.py pull_model` found out about the weights; typing over it would be a lie.
    readonly_fields = ("path", "sha256", "pulled_at", "created_at")


class DeploymentForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean_dedicated_to(self) -> Organization | None:
        organization: Organization | None = self.cleaned_data["dedicated_to"]
        if organization is not None and not organization.plan.allows_dedicated_capacity:
            raise forms.ValidationError(
                f"{organization}'s plan, {organization.plan}, has no dedicated capacity."
            )
        return organization


@admin.register(Deployment)
class DeploymentPage(RegistryAdmin):
    form = DeploymentForm
    list_display = (
        "name",
        "version",
        "region",
        "min_replicas",
        "max_replicas",
        "batching_profile",
        "traffic_weight",
        "is_enabled",
    )
    list_select_related = ("version__model", "dedicated_to")
    list_filter = ("is_enabled", "region", "batching_profile")
    search_fields = ("name", "version__model__name")
    autocomplete_fields = ("version", "dedicated_to")
    readonly_fields = ("created_at",)


@admin.register(RoutingPolicy)
class RoutingPolicyPage(RegistryAdmin):
    list_display = (
        "__str__",
        "region",
        "load",
        "resident",
        "cost",
        "performance",
        "prefix",
        "longest_wait_s",
    )
    list_select_related = ("model", "deployment")
    autocomplete_fields = ("model", "deployment")


@admin.register(Replica)
class ReplicaPage(ReadOnlyAdmin):
    actions_list = ("fleet", "live_dispatch")
    actions_detail = ("drain", "serve", "restart")
    list_display = (
        "name",
        "deployment",
        "state_label",
        "engine",
        "node",
        "running",
        "waiting",
        "kv_cache",
        "rate",
        "heartbeat_age",
    )
    list_select_related = ("deployment",)
    list_filter = ("state", "deployment")
    search_fields = ("name", "node")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only what makes sense in its state, as its row knows it."""
        replica = self.get_object(request, str(object_id))
        wanted = replicas.orders_in(replica.state) if replica is not None else []
        found = super().get_actions_detail(request, object_id)
        return [each for each in found if each.path in wanted]

    @action(description="Fleet, live", url_path="fleet", permissions=["view"])
    def fleet(self, request: HttpRequest) -> TemplateResponse:
        """Every deployment and replica as its last heartbeat says, and the way to its orders."""
        context = {**self.admin_site.each_context(request), "title": "Fleet"}
        context["may_order"] = self.has_act_permission(request)
        try:
            live = replicas.get_live_replicas()
        except FleetUnreachable:
            live, context["is_unreadable"] = [], True
        context["states"] = replicas.get_deployment_states(live)
        context["totals"] = totals = replicas.totals_of(live)
        context["ready_note"] = f"of {totals.replicas:,}, {totals.draining:,} draining"
        context["places_note"] = f"of {totals.places:,} places"
        response = TemplateResponse(request, "admin/inference/fleet.html", context)
        response.headers["Refresh"] = str(REFRESH_S)
        return response

    def _order(
        self, request: HttpRequest, object_id: str, verb: str, title: str, question: str
    ) -> HttpResponse:
        def perform(replica: Replica, _given: dict[str, Any]) -> str:
            replicas.order_replica(
                replica.name, verb, acting_user=staff_user(request), address=address_of(request)
            )
            return f"{replica.name} was asked; its state follows within a second."

        return confirm_page(
            self,
            request,
            object_id,
            title=title,
            question=question,
            perform=perform,
            then=reverse(FLEET),
            is_harmless=verb == "serve",
        )

    @action(description="Drain", url_path="drain", permissions=["act"])
    def drain(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = (
            "It gets no new requests and finishes those that it has. Without another replica"
            " of its deployment, requests for the model are refused until it serves again."
        )
        return self._order(request, object_id, "drain", "Drain", question)

    @action(description="Serve again", url_path="serve", permissions=["act"])
    def serve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = "It gets new requests within a second."
        return self._order(request, object_id, "serve", "Serve again", question)

    @action(description="Restart", url_path="restart", permissions=["act"])
    def restart(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = (
            "It drains for up to 25 s, hands what is left to other replicas, and ends; its"
            " supervisor starts it anew, and it serves when its weights are loaded."
        )
        return self._order(request, object_id, "restart", "Restart", question)

    @action(description="Live dispatch", url_path="dispatch", permissions=["view"])
    def live_dispatch(self, request: HttpRequest) -> TemplateResponse:
        """Batches and routing decisions of every gateway, as of the last second."""
        context = {**self.admin_site.each_context(request), "title": "Live dispatch"}
        try:
            context["views"] = get_live_views()
        except RedisError:
            context["is_unreadable"] = True
        return TemplateResponse(request, "admin/inference/dispatch.html", context)

    @display(
        description="State",
        ordering="state",
        label={
            "Ready": "success",
            "Starting": "info",
            "Draining": "warning",
            "Gone": "danger",
        },
    )
    def state_label(self, replica: Replica) -> str:
        return replica.get_state_display()

    @display(description="KV cache", ordering="kv_cache_usage")
    def kv_cache(self, replica: Replica) -> str:
        return f"{replica.kv_cache_usage:.0%}"

    @display(description="Tokens/s", ordering="tokens_per_second")
    def rate(self, replica: Replica) -> str:
        return f"{replica.tokens_per_second:,.1f}"

    @display(description="Last heard", ordering="last_heartbeat_at")
    def heartbeat_age(self, replica: Replica) -> str:
        if replica.last_heartbeat_at is None:
            return "never"
        age_s = max(0, int((timezone.now() - replica.last_heartbeat_at).total_seconds()))
        return f"{age_s:,} s ago"


# Pages of the room's other parts, where Django looks for them.
from inference.batches import admin as _batches  # noqa: E402, F401
