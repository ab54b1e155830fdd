"""The permissions and scopes in plain words, in the groups in which pages offer them."""

from __future__ import annotations

from typing import NamedTuple


class Word(NamedTuple):
    name: str  # the permission
    label: str
    help: str


PERMISSIONS: dict[str, tuple[Word, ...]] = {
    "Organization": (
        Word("organization.read", "See the organization", "Its name, plan and limits."),
        Word("organization.update", "Change settings", "Name, content screening, response cache."),
        Word("sso.manage", "Manage single sign-on", "Identity providers and who joins by them."),
        Word("webhook.manage", "Manage webhooks", "Where events are sent, and what was sent."),
        Word("audit.read", "Read the audit log", "Every change, log-in and export."),
    ),
    "People": (
        Word("member.read", "See members", "Names, addresses and roles."),
        Word("member.manage", "Manage members", "Invite and remove people, change their roles."),
        Word("group.manage", "Manage groups", "Make groups and choose who is in them."),
        Word("role.manage", "Manage roles", "Make roles and give them to people and groups."),
    ),
    "Projects": (
        Word("project.read", "See projects", "Their limits, models and people."),
        Word("project.create", "Create projects", ""),
        Word("project.manage", "Manage projects", "Rename and archive them, choose their models."),
        Word("project_member.manage", "Manage project members", "Add, change and remove people."),
        Word("service_account.manage", "Manage service accounts", "And the keys of programs."),
        Word("limit.manage", "Set limits", "Rates, tokens and budgets of projects and models."),
    ),
    "Keys": (
        Word("key.read", "See keys", "Never their secrets."),
        Word("key.create", "Create, edit and rotate keys", ""),
        Word("key.revoke", "Suspend and revoke keys", ""),
        Word("admin_key.manage", "Manage admin keys", "Keys with which programs manage all this."),
    ),
    "Usage and money": (
        Word("usage.read", "See usage", "Requests, tokens and cost."),
        Word("billing.read", "See billing", "Invoices, credit and payment details."),
        Word("billing.manage", "Manage billing", "Pay, buy credit, change the plan."),
    ),
}

SCOPES: tuple[Word, ...] = (
    Word("inference.chat", "Chat", "Chat completions and messages."),
    Word("inference.completions", "Completions", "Text completions."),
    Word("inference.embeddings", "Embeddings", ""),
    Word("inference.rerank", "Rerank", "Rerank documents and score texts."),
    Word("inference.tokenize", "Tokenize", "Count and translate tokens."),
    Word("models.read", "List models", ""),
    Word("files.read", "Read files", "Lists and contents of a project's files."),
    Word("files.write", "Write files", "Upload and delete them."),
    Word("batches.read", "See batches", "Their progress and counts."),
    Word("batches.write", "Run batches", "Make and cancel them."),
    Word("answers.read", "Read kept answers", "Responses and chat completions of the project."),
    Word("answers.write", "Change kept answers", "Relabel and delete them."),
)
SCOPE_LABELS = {word.name: word.label for word in SCOPES}
PERMISSION_LABELS = {word.name: word.label for words in PERMISSIONS.values() for word in words}
