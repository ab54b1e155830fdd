"""Form fields of this product: names, dollars, networks, limits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.utils import flatatt
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from tenants import networks

MICROS = Decimal(1_000_000)


class NameField(forms.CharField):
    """One printable line of at most 120 characters, as the tenants room asks."""

    def __init__(self, **kwargs: Any):
        super().__init__(**({"max_length": 120, "strip": True} | kwargs))

    def validate(self, value: str) -> None:
        super().validate(value)
        if not value.isprintable():
            raise ValidationError(gettext("Use printable characters only."), code="unprintable")


class QuickSelect(forms.Select):
    """A list of any length. Django renders a template for each option: 500 take 200 ms."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        widget = self.get_context(name, value, attrs)["widget"]
        groups = (
            format_html('<optgroup label="{}">{}</optgroup>', label, _options(options))
            if label
            else _options(options)
            for label, options, _ in widget["optgroups"]
        )
        listed = format_html_join("", "{}", ((group,) for group in groups))
        return format_html(
            '<select name="{}"{}>{}</select>', widget["name"], flatatt(widget["attrs"]), listed
        )


def _options(options: list[dict[str, Any]]) -> SafeString:
    return format_html_join(
        "",
        '<option value="{}"{}>{}</option>',
        ((each["value"], flatatt(each["attrs"]), each["label"]) for each in options),
    )


class DollarsField(forms.DecimalField):
    """Dollars for people, whole micro-dollars for everybody else."""

    def __init__(self, **kwargs: Any):
        attrs = {"inputmode": "decimal", "placeholder": gettext("No budget"), "autocomplete": "off"}
        defaults: dict[str, Any] = {
            "required": False,
            "min_value": Decimal(0),
            "max_digits": 15,
            "decimal_places": 6,
            "widget": forms.TextInput(attrs=attrs),
        }
        super().__init__(**(defaults | kwargs))

    def to_python(self, value: Any) -> Decimal | None:  # type: ignore[override]
        return super().to_python(value.strip().removeprefix("$") if value else None)

    def clean(self, value: Any) -> int | None:
        dollars = super().clean(value)
        return None if dollars is None else int(dollars * MICROS)

    def prepare_value(self, value: Any) -> Any:
        """An integer is an amount from the database; a text is what was typed."""
        if not isinstance(value, int):
            return value
        whole, rest = divmod(value, 1_000_000)
        return f"{whole}.{f'{rest:06d}'.rstrip('0').ljust(2, '0')}"


class NetworksField(forms.CharField):
    """Addresses and CIDR networks, one a line, as a tuple."""

    def __init__(self, **kwargs: Any):
        attrs = {"rows": 3, "spellcheck": "false", "placeholder": "203.0.113.0/24"}
        defaults: dict[str, Any] = {
            "required": False,
            "max_length": 6_000,
            "widget": forms.Textarea(attrs),
        }
        super().__init__(**(defaults | kwargs))

    def clean(self, value: Any) -> tuple[str, ...]:  # type: ignore[override]
        lines = [line.strip() for line in super().clean(value).splitlines() if line.strip()]
        if len(lines) > networks.MOST_NETWORKS:
            raise ValidationError(
                gettext("At most %(count)s lines.") % {"count": networks.MOST_NETWORKS}
            )
        return tuple(_network(line) for line in lines)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list | tuple) else value


def _network(line: str) -> str:
    try:
        return str(networks.parse_network(line))
    except ValueError as error:
        reason = "has bits set right of its prefix" if "host bits" in str(error) else "is neither"
        raise ValidationError(
            gettext("“%(line)s” %(reason)s. Give an address or a network such as 203.0.113.0/24.")
            % {"line": line[:60], "reason": reason}
        ) from error


# As they are shown; the largest number is what the column holds.
_INT, _BIGINT = 2**31 - 1, 2**63 - 1
LIMITS: dict[str, tuple[Promise, int]] = {
    "requests_per_minute": (gettext_lazy("Requests a minute"), _INT),
    "requests_per_hour": (gettext_lazy("Requests an hour"), _INT),
    "requests_per_day": (gettext_lazy("Requests a day"), _INT),
    "tokens_per_minute": (gettext_lazy("Tokens a minute"), _INT),
    "tokens_per_day": (gettext_lazy("Tokens a day"), _BIGINT),
    "concurrent_requests": (gettext_lazy("Requests at the same time"), _INT),
    "monthly_tokens": (gettext_lazy("Tokens a month"), _BIGINT),
}
BUDGET = "monthly_budget_micros"
BUDGET_LABEL = gettext_lazy("Budget a month")
LIMIT_NAMES = (*LIMITS, BUDGET)


class LimitsMixin(forms.Form):
    """The eight limits, all optional; an empty one sets none."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for name, (label, largest) in LIMITS.items():
            attrs = {
                "inputmode": "numeric",
                "placeholder": gettext("No limit"),
                "autocomplete": "off",
            }
            self.fields[name] = forms.IntegerField(
                label=str(label),
                required=False,
                min_value=0,
                max_value=largest,
                widget=forms.TextInput(attrs),
            )
        self.fields[BUDGET] = DollarsField(
            label=gettext("%(limit)s, in dollars") % {"limit": BUDGET_LABEL}
        )

    @property
    def limits(self) -> dict[str, int | None]:
        return {name: self.cleaned_data.get(name) for name in LIMIT_NAMES}

    @property
    def limit_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in LIMIT_NAMES]


class ModelsField(forms.MultipleChoiceField):
    """Public names of models; names that the registry lost stay choosable while they are set."""

    def __init__(self, **kwargs: Any):
        defaults: dict[str, Any] = {"required": False, "widget": forms.CheckboxSelectMultiple}
        super().__init__(**(defaults | kwargs))

    def offer(self, registered: list[str], current: list[str]) -> None:
        lost = [name for name in current if name not in registered]
        self.choices = [(name, name) for name in registered] + [
            (name, gettext("%(name)s (no longer offered)") % {"name": name}) for name in lost
        ]


def add_refusal(form: forms.Form, message: str, param: str | None) -> None:
    """Show what a room refused beside the field that it is about."""
    form.add_error(param if param in form.fields else None, message)
