"""Staff users: made by commands; the admin has its own pages for them."""

from __future__ import annotations

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from tenants import audit
from tenants.errors import InvalidInput
from tenants.models import User


@transaction.atomic
def create_staff_user(
    email: str, password: str, *, acting_user: User | None, address: str | None = None
) -> User:
    """A superuser of the staff admin; the password must pass the validators."""
    email = email.strip().lower()
    user = User(email=email, name=email.partition("@")[0][:120], is_staff=True, is_superuser=True)
    try:
        user.clean_fields(exclude=["password"])
        validate_password(password, user)
    except ValidationError as error:
        raise InvalidInput(" ".join(error.messages)) from error
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError as error:
        raise InvalidInput("A user with this address exists.", param="email") from error
    audit.record_event(
        acting_user=acting_user,
        action="staff_user.created",
        object_type="user",
        object_id=str(user.pk),
        after={"email": email, "is_staff": True, "is_superuser": True},
        address=address,
    )
    return user
