"""The playground: models called from a page, as a program would (``/v1/stream``, by a ticket)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from inference import catalogue
from inference.catalogue import Listed
from portal import playground
from portal.pages import organization_page, render_page, user_of
from portal.playground import MODES, Mode
from portal.reach import check_reach
from tenants import people, selectors
from tenants.models import Membership, Project


@require_safe
@organization_page("organization.read")
def show_playground(
    request: HttpRequest, membership: Membership, mode: str = "chat"
) -> HttpResponse:
    """One way of calling a model, in one project; the conversation lives in the browser alone."""
    if mode not in MODES:
        raise Http404
    chosen = MODES[mode]
    reach = check_reach(membership, people.PERMISSION)
    projects = list(selectors.get_projects(membership.organization, projects=reach.only))
    project = _chosen(projects, request.GET.get("project"))
    models = _models_of(membership, project, chosen) if project else []
    context: dict[str, Any] = {
        "mode": chosen,
        "modes": MODES.values(),
        "projects": projects,
        "chosen_project": project,
        "models": models,
    }
    if project and models:
        context["parameters"] = playground.parameters_of(models)
        context["config"] = _config(request, membership, project, models, chosen)
    template = f"portal/playground/{chosen.template}.html"
    return render_page(request, membership, template, context, tab="playground")


def _chosen(projects: Sequence[Project], asked: str | None) -> Project | None:
    """The project that the address names; the oldest if it names none of theirs."""
    named = (project for project in projects if project.public_id == asked)
    return next(named, projects[0] if projects else None)


def _models_of(membership: Membership, project: Project, mode: Mode) -> list[Listed]:
    """Models for this mode that this member's requests may name in the project."""
    held = people.credentials_of_member(membership, project)
    principal = people.get_member_principal(held.lookup)
    if principal is None:
        return []
    return [
        model
        for model in catalogue.get_catalogue(membership.organization)
        if mode.capability in model.capabilities and principal.may_use(*model.names)
    ]


def _config(
    request: HttpRequest,
    membership: Membership,
    project: Project,
    models: Sequence[Listed],
    mode: Mode,
) -> dict[str, Any]:
    organization = membership.organization.public_id
    return {
        "mode": mode.name,
        "endpoint": mode.endpoint,
        # What a tab has kept is shown to nobody else who logs in there.
        "owner": f"{user_of(request).public_id}:{organization}",
        "project": project.public_id,
        "tickets": reverse("playground_tickets", args=[organization]),
        "login": f"{reverse('account_login')}?next={request.path}",
        # A link from a model's page names it; else what the tab had last.
        "model": request.GET.get("model", ""),
        "models": [playground.describe(model) for model in models],
        "mostStops": playground.MOST_STOPS,
        "fewestTexts": playground.FEWEST_TEXTS,
        "mostTexts": playground.MOST_TEXTS,
        "words": playground.WORDS,
        "problems": playground.PROBLEMS,
    }
