"""Identifiers minted when a form is shown, so that sending it twice creates one object.

The form carries its future object's public id, signed for this user and this
organization: the database's unique constraint then settles every race, and
nobody can choose an id.
"""

from __future__ import annotations

from django.core import signing
from django.utils.translation import gettext

from tenants.errors import InvalidInput
from tenants.identifiers import new_key_id
from tenants.models import Organization, User

# A form left open over a day is shown again instead of being trusted.
MAX_AGE_S = 24 * 3600


def new_key_form_id(user: User, organization: Organization) -> str:
    return signing.dumps(new_key_id(), salt=_salt(user, organization))


def read_key_form_id(text: str, user: User, organization: Organization) -> str:
    """The public id inside; InvalidInput if the form was altered, another's, or too old."""
    try:
        value: str = signing.loads(text, salt=_salt(user, organization), max_age=MAX_AGE_S)
    except signing.BadSignature as error:
        raise InvalidInput(gettext("This form has expired. Please send it again.")) from error
    return value


def read_webhook_form_id(text: str, user: User, organization: Organization) -> str:
    """The same for a webhook's form, which carries the same kind of identifier."""
    return "webhook_" + read_key_form_id(text, user, organization).removeprefix("key_")


def read_batch_form_id(text: str, user: User, organization: Organization) -> str:
    """And for a batch's."""
    return "batch_" + read_key_form_id(text, user, organization).removeprefix("key_")


def _salt(user: User, organization: Organization) -> str:
    return f"portal.key-form.{user.pk}.{organization.public_id}"
