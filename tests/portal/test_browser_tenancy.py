"""The pages of tenancy in a real browser: inviting, joining, keys, the trail that it leaves."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from inference.models import Model
from tenants import access, actions
from tenants.models import ApiKey, Membership, Project
from tests.cast import Cast, build_cast
from tests.portal.conftest import deliver_invitations
from tests.portal.serving import serve
from tests.portal.test_browser import (  # noqa: F401 - fixtures are found by their names
    NARROW,
    chromium,
    fits,
    log_in,
    open_page,
    pytestmark,
    shoot,
)

PHONE = {"width": 360, "height": 740}


def furnish(cast: Cast) -> Project:
    """An organization in use: keys in every state, people, groups, roles, a trail."""
    for name in ("smollm2-135m-instruct", "llama-3.1-8b", "all-minilm-l6-v2"):
        serve(name, context=8_192)
    owner = cast.owner
    actor = access.get_actor(cast.organization.memberships.get(user=owner))
    search = actions.create_project(
        cast.organization, "Search, production", acting_user=owner, address="203.0.113.7"
    )
    actions.update_project(
        search,
        {
            "requests_per_minute": 600,
            "monthly_budget_micros": 2_500_000_000,
            "allowed_models": ["llama-3.1-8b", "all-minilm-l6-v2"],
        },
        acting_user=owner,
        address="203.0.113.7",
    )
    actions.set_project_model_limit(
        search, "llama-3.1-8b", {"tokens_per_minute": 50_000}, acting_user=owner
    )
    actions.add_project_member(search, cast.viewer, "member", acting_user=owner)
    account = actions.create_service_account(search, "nightly-indexer", acting_user=owner)
    add_keys(cast, search, account)
    group = actions.create_group(cast.organization, "On call", acting_user=owner)
    actions.add_group_member(group, cast.viewer, actor=actor)
    role = actions.create_role(
        cast.organization,
        "Key rotation",
        ["key.create", "key.read"],
        description="Rotates keys and does nothing else",
        actor=actor,
    )
    actions.assign_role(role, group, project=search, actor=actor)
    actions.assign_role(role, cast.billing, actor=actor)
    actions.invite_member(
        cast.organization,
        "grace.hopper@example.com",
        "developer",
        projects=[{"id": search.public_id, "role": "member"}],
        actor=actor,
    )
    return search


def add_keys(cast: Cast, search: Project, account: Any) -> None:
    owner, now = cast.owner, timezone.now()
    soon = actions.KeyTerms(
        scopes=("inference.chat", "inference.embeddings"),
        allowed_models=("llama-3.1-8b",),
        allowed_networks=("203.0.113.0/24", "2001:db8::/32"),
        expires_at=now + timedelta(days=4),
        limits={"requests_per_minute": 60, "monthly_budget_micros": 25_000_000},
    )
    actions.create_api_key(search, "Staging backend", acting_user=cast.member, terms=soon)
    rotating, _ = actions.create_api_key(account, "Nightly run", acting_user=owner)
    actions.rotate_api_key(rotating, acting_user=owner)
    suspended, _ = actions.create_api_key(search, "Leaked in a log", acting_user=cast.admin)
    actions.set_api_key_suspended(suspended, True, reason="Seen in a build log", acting_user=owner)
    revoked, _ = actions.create_api_key(cast.project, "Prototype", acting_user=cast.member)
    actions.revoke_api_key(revoked, acting_user=owner, address="198.51.100.4")
    old, _ = actions.create_api_key(cast.project, "Workshop", acting_user=cast.member)
    ApiKey.objects.filter(pk=old.pk).update(expires_at=now - timedelta(days=3))
    terraform = actions.KeyTerms(scopes=("project.create", "project.manage", "project.read"))
    actions.create_api_key(cast.organization, "Terraform", acting_user=owner, terms=terraform)
    ApiKey.objects.filter(pk=rotating.pk).update(last_used_at=now - timedelta(minutes=3))


def pages_of(cast: Cast, search: Project) -> dict[str, str]:
    base = f"/o/{cast.organization.public_id}/"
    key = ApiKey.objects.get(name="Staging backend").public_id
    project = f"projects/{search.public_id}/"
    group = cast.organization.groups.get().public_id
    role = cast.organization.custom_roles.get().public_id
    paths = {
        "keys": "keys/",
        "key": f"keys/{key}/",
        "key-new": "keys/new/",
        "key-edit": f"keys/{key}/edit/",
        "key-rotate": f"keys/{key}/rotate/",
        "first-call": f"keys/{key}/first-call/",
        "playground": "playground/",
        "playground-completion": "playground/completion/",
        "key-suspend": f"keys/{key}/suspend/",
        "projects": "projects/",
        "project": project,
        "project-edit": f"{project}edit/",
        "project-limits": f"{project}limits/",
        "project-member": f"{project}members/add/",
        "project-archive": f"{project}archive/",
        "members": "members/",
        "member": f"members/{cast.viewer.public_id}/",
        "member-remove": f"members/{cast.member.public_id}/remove/",
        "invite": "members/invite/",
        "groups": "groups/",
        "group": f"groups/{group}/",
        "roles": "roles/",
        "role": f"roles/{role}/",
        "role-new": "roles/new/",
        "audit": "audit/",
        "settings": "settings/",
        "admin-keys": "settings/admin-keys/",
        "admin-key-new": "settings/admin-keys/new/",
    }
    return {name: base + path for name, path in paths.items()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("light", {"color_scheme": "light"}),
        ("dark", {"color_scheme": "dark"}),
        ("390", {"viewport": NARROW}),
        ("360", {"viewport": PHONE, "color_scheme": "dark"}),
    ],
)
def test_every_page_of_tenancy_fits(open_page: Any, name: str, options: dict[str, Any]) -> None:  # noqa: F811
    cast = build_cast()
    search = furnish(cast)
    page = open_page(**options)
    log_in(page, cast.owner.email)
    for title, path in pages_of(cast, search).items():
        page.goto(path)
        assert page.locator("h1").count() == 1, title
        assert fits(page), title
        if title in {"key-edit", "settings"}:
            for folded in page.locator("details.more:not([open])").all():
                folded.locator("summary").first.click()
        if title == "audit":
            page.locator("details.disclosure summary").nth(1).click()
        assert fits(page), title
        shoot(page, f"tenancy-{name}-{title}")


def test_labels_and_keyboard(open_page: Any) -> None:  # noqa: F811
    """Every control has a name, and the first Tab leads past the navigation."""
    cast = build_cast()
    search = furnish(cast)
    page = open_page()
    log_in(page, cast.owner.email)
    nameless = """() => [...document.querySelectorAll('main input, main select, main textarea, main button, main a')]
        .filter(each => each.type !== 'hidden' && !each.labels?.length && !each.textContent.trim()
            && !each.getAttribute('aria-label')).map(each => each.outerHTML)"""
    doubled = """() => { const ids = [...document.querySelectorAll('[id]')].map(each => each.id);
        return ids.filter((id, at) => ids.indexOf(id) !== at) }"""
    for title, path in pages_of(cast, search).items():
        page.goto(path)
        assert page.evaluate(nameless) == [], title
        assert page.evaluate(doubled) == [], title
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip", title


def test_from_an_invitation_to_the_trail(open_page: Any) -> None:  # noqa: F811
    cast = build_cast()
    Model.objects.create(name="smol", kind=Model.Kind.CHAT)
    owner, newcomer = open_page(), open_page(color_scheme="dark")
    log_in(owner, cast.owner.email)
    owner.get_by_role("link", name="Members").click()
    owner.get_by_role("link", name="Invite", exact=True).click()
    owner.get_by_label("E-mail").fill("grace@example.com")
    owner.get_by_label("Viewer").check()
    owner.get_by_role("button", name="Send invitation").click()
    owner.get_by_text("is on its way to grace@example.com").wait_for()
    deliver_invitations()

    link = re.search(r"/invitations/\w+/", mail.outbox[-1].body)
    assert link
    newcomer.goto(link[0])
    assert newcomer.url.endswith("/invitation/")
    shoot(newcomer, "invitation")
    newcomer.get_by_role("link", name="Create an account").click()
    assert newcomer.get_by_label("Email").input_value() == "grace@example.com"
    shoot(newcomer, "invitation-sign-up")
    newcomer.get_by_label("Password", exact=True).fill("a compiler of my own")
    newcomer.get_by_label("Password (again)").fill("a compiler of my own")
    newcomer.get_by_role("button", name="Create account").click()
    newcomer.wait_for_url(f"**/o/{cast.organization.public_id}/")
    newcomer.get_by_role("link", name="API keys").click()
    assert newcomer.get_by_role("link", name="Create key").count() == 0

    owner.get_by_role("navigation", name="Organization").get_by_role("link", name="Members").click()
    owner.get_by_role("link", name="grace@example.com").click()
    owner.get_by_label("Developer").check()
    owner.get_by_role("button", name="Save role").click()
    owner.get_by_text("is Developer now").wait_for()

    newcomer.reload()
    newcomer.get_by_role("link", name="Create key").click()
    newcomer.get_by_label("Name", exact=True).fill("Flow-Matic")
    newcomer.get_by_text("Permissions, networks and limits").click()
    newcomer.get_by_label("Chat", exact=True).check()
    newcomer.get_by_label("smol").check()
    newcomer.get_by_label("Budget a month").fill("12.50")
    shoot(newcomer, "key-create-terms")
    newcomer.get_by_role("button", name="Create key").click()
    first = newcomer.locator("#secret").text_content()
    newcomer.get_by_role("link", name="I have copied it").click()
    newcomer.get_by_role("link", name="Flow-Matic").click()
    shoot(newcomer, "key-page")
    newcomer.get_by_role("link", name="Rotate").click()
    newcomer.get_by_label("One more hour").check()
    newcomer.get_by_role("button", name="Rotate key").click()
    second = newcomer.locator("#secret").text_content()
    assert first != second
    shoot(newcomer, "key-rotated")
    newcomer.get_by_role("link", name="I have copied it").click()
    newcomer.get_by_role("link", name="Flow-Matic").click()
    newcomer.get_by_role("link", name="Revoke").click()
    newcomer.get_by_role("button", name="Revoke key").click()
    newcomer.get_by_text("is revoked. Programs").wait_for()

    key = ApiKey.objects.get(name="Flow-Matic")
    assert not key.is_live
    assert (key.scopes, key.allowed_models) == (["inference.chat"], ["smol"])
    assert key.monthly_budget_micros == 12_500_000
    owner.get_by_role("link", name="Audit log").click()
    for action in ("Revoked a key", "Rotated a key", "Created a key", "Changed a member’s role",
                   "Accepted an invitation", "Invited somebody"):  # fmt: skip
        assert owner.locator("td", has_text=action).first.is_visible(), action
    assert first not in owner.content() and second not in owner.content()
    owner.get_by_label("Actor").fill("grace@example.com")
    owner.get_by_role("button", name="Filter").click()
    owner.locator("td", has_text="Revoked a key").wait_for()
    assert owner.locator("td", has_text="Invited somebody").count() == 0
    shoot(owner, "audit-filtered")
    with owner.expect_download() as download:
        owner.get_by_text("Export", exact=True).click()
        owner.get_by_role("link", name="JSON lines, everything").click()
    assert download.value.suggested_filename.endswith(".jsonl")


def test_tenancy_without_script(open_page: Any) -> None:  # noqa: F811
    cast = build_cast()
    page = open_page(java_script_enabled=False, viewport=PHONE)
    log_in(page, cast.owner.email)
    page.goto(f"/o/{cast.organization.public_id}/members/{cast.viewer.public_id}/")
    page.get_by_label("Admin").check()
    page.get_by_role("button", name="Save role").click()
    assert Membership.objects.get(user=cast.viewer).role == "admin"
    page.goto(f"/o/{cast.organization.public_id}/projects/new/")
    page.get_by_label("Name").fill("Plain")
    page.get_by_role("button", name="Create project").click()
    page.get_by_role("link", name="Archive", exact=True).click()
    page.get_by_label("to confirm").fill("Plain")
    page.get_by_role("button", name="Archive project").click()
    assert Project.objects.get(name="Plain").archived_at
