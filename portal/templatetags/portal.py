"""How the pages write money, numbers, times and permissions."""

from __future__ import annotations

from datetime import datetime, timedelta

from django import template
from django.utils import timezone
from django.utils.formats import date_format, get_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext

from portal import snippets
from portal.fields import BUDGET, BUDGET_LABEL, LIMITS
from portal.permission_words import PERMISSION_LABELS, SCOPE_LABELS
from portal.reach import reach_of
from portal.snippets import Sample
from tenants import access
from tenants.keys import PREFIXES
from tenants.models import ApiKey, LimitFields, Membership
from tenants.principal import Limits

register = template.Library()


@register.filter
def micros(amount: int | None) -> str:
    """Integer micro-dollars as dollars: two decimals, up to six where they matter."""
    return _dollars(amount, 2)


@register.filter
def about_micros(amount: int | None) -> str:
    """To the cent from a dollar on: for tiles, where the exact amount stands elsewhere."""
    amount = int(amount or 0)
    return _dollars(amount if abs(amount) < 1_000_000 else round(amount, -4), 2)


@register.filter
def exact_micros(amount: int | None) -> str:
    """All six decimals, so that a column of amounts lines up."""
    return _dollars(amount, 6)


def _dollars(amount: int | None, least_decimals: int) -> str:
    amount = int(amount or 0)
    dollars, rest = divmod(abs(amount), 1_000_000)
    decimals = f"{rest:06d}".rstrip("0").ljust(least_decimals, "0")
    sign = "−" if amount < 0 else ""
    return f"{sign}${thousands(dollars)}{get_format('DECIMAL_SEPARATOR')}{decimals}"


@register.filter
def thousands(amount: int | None) -> str:
    """1234567 → 1,234,567, in German 1.234.567; nothing at all is a dash."""
    if amount is None:
        return "–"
    return str(number_format(int(amount), use_l10n=True, force_grouping=True))


@register.filter
def compact(amount: int | None) -> str:
    """1234567 → 1.2M: for axes and tight places, where the exact number stands elsewhere."""
    rest = abs(int(amount or 0))
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if rest >= size:
            tenths = rest * 10 // size
            digit = f"{get_format('DECIMAL_SEPARATOR')}{tenths % 10}" if tenths % 10 else ""
            return f"{'−' if int(amount or 0) < 0 else ''}{thousands(tenths // 10)}{digit}{unit}"
    return thousands(amount)


@register.filter
def percent(share: float) -> str:
    """0.034 → 3.4 %; what is not nothing is not shown as nothing."""
    if 0 < share < 0.001:
        return f"< {number_format('0.1')} %"
    # Rounded first: number_format cuts off.
    return f"{number_format(round(100 * share, 1), 1)} %"


@register.filter
def milliseconds(amount_ms: float | None) -> str:
    """850 → 850 ms, 12400 → 12.4 s; nothing at all is a dash."""
    if amount_ms is None:
        return "–"
    if amount_ms < 1000:
        return f"{thousands(round(amount_ms))} ms"
    return f"{number_format(round(amount_ms / 1000, 1), 1, use_l10n=True, force_grouping=True)} s"


@register.simple_tag
def moment(value: datetime | None, empty: str = "") -> SafeString | str:
    """``21 Nov, 14:03`` on the reader's clock, another year named; the exact second as its title."""
    if value is None:
        return empty or gettext("Never")
    value = timezone.localtime(value)
    year = "" if value.year == timezone.localtime().year else " Y"
    return _time(value, date_format(value, f"j M{year}, H:i"))


@register.simple_tag
def ago(value: datetime | None, empty: str = "") -> SafeString | str:
    """``3 minutes ago`` for what is recent, else the date; the exact second as its title."""
    if value is None:
        return empty or gettext("Never")
    age = timezone.now() - value
    count = 0
    if age < timedelta(minutes=1):
        text = gettext("just now")
    elif age < timedelta(hours=1):
        count = age // timedelta(minutes=1)
        text = ngettext("%(count)d minute ago", "%(count)d minutes ago", count)
    elif age < timedelta(days=1):
        count = age // timedelta(hours=1)
        text = ngettext("%(count)d hour ago", "%(count)d hours ago", count)
    elif age < timedelta(days=14):
        count = age.days
        text = ngettext("%(count)d day ago", "%(count)d days ago", count)
    else:
        text = date_format(timezone.localtime(value), "j M Y")
    return _time(timezone.localtime(value), text % {"count": count})


@register.simple_tag
def chat_samples(url: str, model: str | None, secret: str = "") -> list[Sample]:
    return snippets.chat_samples(url, model or "", secret)


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
    may = ", ".join(scope_label(name) for name in key.scopes) or gettext("Everything")
    models, networks = len(key.allowed_models), len(key.allowed_networks)
    held_to = [
        words
        for words, is_set in (
            (
                ngettext("%(count)d model", "%(count)d models", models) % {"count": models},
                models,
            ),
            (
                ngettext("%(count)d network", "%(count)d networks", networks) % {"count": networks},
                networks,
            ),
            (gettext("own limits"), limits(key)),
        )
        if is_set
    ]
    return " · ".join([may, *held_to])


@register.filter
def scope_label(scope: str) -> str:
    return str(SCOPE_LABELS.get(scope) or PERMISSION_LABELS.get(scope, scope))


@register.filter
def limits(row: LimitFields | Limits) -> list[tuple[str, str]]:
    """The limits that a row sets, in words."""
    found = [
        (str(label), thousands(getattr(row, name)))
        for name, (label, _) in LIMITS.items()
        if getattr(row, name) is not None
    ]
    budget = getattr(row, BUDGET)
    return found if budget is None else [*found, (str(BUDGET_LABEL), micros(budget))]


def _time(value: datetime, text: str) -> SafeString:
    return format_html(
        '<time datetime="{}" title="{} {}">{}</time>',
        value.isoformat(timespec="seconds"),
        value.strftime("%Y-%m-%d %H:%M:%S"),
        value.tzname(),
        text,
    )
