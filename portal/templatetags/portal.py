"""How the pages write money, numbers, times and permissions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from portal.fields import BUDGET, BUDGET_LABEL, LIMITS
from portal.permission_words import PERMISSION_LABELS, SCOPE_LABELS
from portal.reach import reach_of
from tenants import access
from tenants.keys import PREFIXES
from tenants.models import ApiKey, LimitFields, Membership
from tenants.principal import Limits

register = template.Library()


@register.filter
def micros(amount: int | None) -> str:
    """Integer micro-dollars as dollars: two decimals, up to six where they matter."""
    amount = int(amount or 0)
    dollars, rest = divmod(abs(amount), 1_000_000)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    sign = "−" if amount < 0 else ""
    return f"{sign}${dollars:,}.{decimals}"


@register.filter
def exact_micros(amount: int | None) -> str:
    """All six decimals, so that a column of amounts lines up."""
    dollars, _, decimals = micros(amount).partition(".")
    return f"{dollars}.{decimals.ljust(6, '0')}"


@register.filter
def thousands(amount: int | None) -> str:
    """1234567 → 1,234,567; nothing at all is a dash."""
    return "–" if amount is None else f"{int(amount):,}"


@register.filter
def percent(share: float) -> str:
    """0.034 → 3.4 %; what is not nothing is not shown as nothing."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


@register.simple_tag
def moment(value: datetime | None, empty: str = "Never") -> SafeString | str:
    """``21 Nov, 14:03`` in UTC, another year named, with the exact second as its title."""
    if value is None:
        return empty
    value = value.astimezone(UTC)
    year = "" if value.year == timezone.now().year else f" {value.year}"
    return _time(value, f"{value.day} {value:%b}{year}, {value:%H:%M}")


@register.simple_tag
def ago(value: datetime | None, empty: str = "Never") -> SafeString | str:
    """``3 minutes ago`` for what is recent, else the date; the exact second as its title."""
    if value is None:
        return empty
    age = timezone.now() - value
    if age < timedelta(minutes=1):
        text = "just now"
    elif age < timedelta(hours=1):
        text = _plural(int(age.total_seconds() // 60), "minute")
    elif age < timedelta(days=1):
        text = _plural(int(age.total_seconds() // 3600), "hour")
    elif age < timedelta(days=14):
        text = _plural(age.days, "day")
    else:
        value = value.astimezone(UTC)
        text = f"{value.day} {value:%b %Y}"
    return _time(value.astimezone(UTC), text)


@register.filter
def may(membership: Membership, permission: str) -> bool:
    """Whether to offer a control; the view checks again."""
    return access.is_allowed(membership, permission)


@register.filter
def may_somewhere(membership: Membership, permission: str) -> bool:
    """The same for what may be allowed in some projects only."""
    return bool(reach_of(membership, permission))


@register.filter
def masked(key: ApiKey) -> str:
    """As programs' people know it: its prefix and its last characters."""
    return f"{PREFIXES[key.kind]}…{key.last_four}"


@register.filter
def key_summary(key: ApiKey) -> str:
    """What a key may do, in a few words for a table."""
    may = ", ".join(scope_label(name) for name in key.scopes) or "Everything"
    held_to = [
        words
        for words, is_set in (
            (_count(len(key.allowed_models), "model"), key.allowed_models),
            (_count(len(key.allowed_networks), "network"), key.allowed_networks),
            ("own limits", limits(key)),
        )
        if is_set
    ]
    return " · ".join([may, *held_to])


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


@register.filter
def scope_label(scope: str) -> str:
    return SCOPE_LABELS.get(scope) or PERMISSION_LABELS.get(scope, scope)


@register.filter
def limits(row: LimitFields | Limits) -> list[tuple[str, str]]:
    """The limits that a row sets, in words."""
    found = [
        (label, f"{getattr(row, name):,}")
        for name, (label, _) in LIMITS.items()
        if getattr(row, name) is not None
    ]
    budget = getattr(row, BUDGET)
    return found if budget is None else [*found, (BUDGET_LABEL, micros(budget))]


def _plural(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'} ago"


def _time(value: datetime, text: str) -> SafeString:
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        value.isoformat(timespec="seconds"),
        value.strftime("%Y-%m-%d %H:%M:%S"),
        text,
    )
