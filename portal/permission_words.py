"""The permissions and scopes in plain words, in the groups in which pages offer them."""

from __future__ import annotations

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy


class Word(NamedTuple):
    name: str  # the permission
    label: str | Promise
    help: str | Promise


PERMISSIONS: dict[Promise, tuple[Word, ...]] = {
    gettext_lazy("Organization"): (
        Word(
            "organization.read",
            gettext_lazy("See the organization"),
            gettext_lazy("Its name, plan and limits."),
        ),
        Word(
            "organization.update",
            gettext_lazy("Change settings"),
            gettext_lazy("Name, content screening, response cache."),
        ),
        Word(
            "sso.manage",
            gettext_lazy("Manage single sign-on"),
            gettext_lazy("Identity providers and who joins by them."),
        ),
        Word(
            "webhook.manage",
            gettext_lazy("Manage webhooks"),
            gettext_lazy("Where events are sent, and what was sent."),
        ),
        Word(
            "audit.read",
            gettext_lazy("Read the audit log"),
            gettext_lazy("Every change, log-in and export."),
        ),
    ),
    gettext_lazy("People"): (
        Word(
            "member.read", gettext_lazy("See members"), gettext_lazy("Names, addresses and roles.")
        ),
        Word(
            "member.manage",
            gettext_lazy("Manage members"),
            gettext_lazy("Invite and remove people, change their roles."),
        ),
        Word(
            "group.manage",
            gettext_lazy("Manage groups"),
            gettext_lazy("Make groups and choose who is in them."),
        ),
        Word(
            "role.manage",
            gettext_lazy("Manage roles"),
            gettext_lazy("Make roles and give them to people and groups."),
        ),
    ),
    gettext_lazy("Projects"): (
        Word(
            "project.read",
            gettext_lazy("See projects"),
            gettext_lazy("Their limits, models and people."),
        ),
        Word("project.create", gettext_lazy("Create projects"), ""),
        Word(
            "project.manage",
            gettext_lazy("Manage projects"),
            gettext_lazy("Rename and archive them, choose their models."),
        ),
        Word(
            "project_member.manage",
            gettext_lazy("Manage project members"),
            gettext_lazy("Add, change and remove people."),
        ),
        Word(
            "service_account.manage",
            gettext_lazy("Manage service accounts"),
            gettext_lazy("And the keys of programs."),
        ),
        Word(
            "limit.manage",
            gettext_lazy("Set limits"),
            gettext_lazy("Rates, tokens and budgets of projects and models."),
        ),
    ),
    gettext_lazy("Keys"): (
        Word("key.read", gettext_lazy("See keys"), gettext_lazy("Never their secrets.")),
        Word("key.create", gettext_lazy("Create, edit and rotate keys"), ""),
        Word("key.revoke", gettext_lazy("Suspend and revoke keys"), ""),
        Word(
            "admin_key.manage",
            gettext_lazy("Manage admin keys"),
            gettext_lazy("Keys with which programs manage all this."),
        ),
    ),
    gettext_lazy("Usage and money"): (
        Word("usage.read", gettext_lazy("See usage"), gettext_lazy("Requests, tokens and cost.")),
        Word(
            "billing.read",
            gettext_lazy("See billing"),
            gettext_lazy("Invoices, credit and payment details."),
        ),
        Word(
            "billing.manage",
            gettext_lazy("Manage billing"),
            gettext_lazy("Pay, buy credit, change the plan."),
        ),
    ),
}

SCOPES: tuple[Word, ...] = (
    Word("inference.chat", gettext_lazy("Chat"), gettext_lazy("Chat completions and messages.")),
    Word("inference.completions", gettext_lazy("Completions"), gettext_lazy("Text completions.")),
    Word("inference.embeddings", gettext_lazy("Embeddings"), ""),
    Word(
        "inference.rerank",
        gettext_lazy("Rerank"),
        gettext_lazy("Rerank documents and score texts."),
    ),
    Word(
        "inference.tokenize", gettext_lazy("Tokenize"), gettext_lazy("Count and translate tokens.")
    ),
    Word("models.read", gettext_lazy("List models"), ""),
    Word(
        "files.read",
        gettext_lazy("Read files"),
        gettext_lazy("Lists and contents of a project's files."),
    ),
    Word("files.write", gettext_lazy("Write files"), gettext_lazy("Upload and delete them.")),
    Word("batches.read", gettext_lazy("See batches"), gettext_lazy("Their progress and counts.")),
    Word("batches.write", gettext_lazy("Run batches"), gettext_lazy("Make and cancel them.")),
    Word(
        "answers.read",
        gettext_lazy("Read kept answers"),
        gettext_lazy("Responses and chat completions of the project."),
    ),
    Word(
        "answers.write",
        gettext_lazy("Change kept answers"),
        gettext_lazy("Relabel and delete them."),
    ),
)
SCOPE_LABELS = {word.name: word.label for word in SCOPES}
PERMISSION_LABELS = {word.name: word.label for words in PERMISSIONS.values() for word in words}
