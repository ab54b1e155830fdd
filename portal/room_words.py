"""What the rooms call their roles, states and events, in the language of who reads.

The rooms speak English, because the API, exports and staff pages say the same words. Here
they are marked for the catalogues, and a test holds that none is missing. Templates write
``{% translate member.get_role_display %}``, views ``in_words(…)``, forms ``choices_of(…)``.
"""

from __future__ import annotations

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy, gettext_noop

MARKED = (
    # Roles in an organization and in a project
    gettext_noop("Owner"),
    gettext_noop("Admin"),
    gettext_noop("Billing"),
    gettext_noop("Developer"),
    gettext_noop("Viewer"),
    gettext_noop("Project owner"),
    gettext_noop("Member"),
    # Kinds of keys
    gettext_noop("Project key"),
    gettext_noop("Service account key"),
    gettext_noop("Admin key: manages, cannot infer"),
    # Invitations
    gettext_noop("Pending"),
    gettext_noop("Accepted"),
    gettext_noop("Expired"),
    gettext_noop("Revoked"),
    # Content screening and the semantic cache
    gettext_noop("Allow: do not look"),
    gettext_noop("Flag: note the category with the usage"),
    gettext_noop("Block: refuse the request or end the answer"),
    gettext_noop("Off"),
    gettext_noop("For requests that ask for it"),
    gettext_noop("For every request that it fits"),
    # Protocols of identity providers
    gettext_noop("OpenID Connect"),
    gettext_noop("SAML 2.0"),
    # Events that webhooks tell
    gettext_noop("A batch has ended; its files are ready."),
    gettext_noop("A batch did not pass validation."),
    gettext_noop("A batch reached the end of its window."),
    gettext_noop("A batch was cancelled."),
    gettext_noop("A background response is complete."),
    gettext_noop("A background response failed."),
    gettext_noop("A background response ended early, as at its token limit."),
    gettext_noop("A background response was cancelled."),
    gettext_noop("This month's costs reached the threshold of a spend alert."),
    gettext_noop("This month's costs reached the monthly budget."),
    gettext_noop("An API key expires within a week."),
    # Who acts where no person does
    gettext_noop("Staff"),
    gettext_noop("The platform"),
)


def in_words(text: str | Promise) -> str:
    """A room's word in the reader's language; one without a translation as it is."""
    return gettext(str(text)) if text else ""


def choices_of(kind: type[TextChoices]) -> list[tuple[str, Promise]]:
    """A room's choices for a form; the labels follow the language of each request."""
    return [(value, gettext_lazy(label)) for value, label in kind.choices]
