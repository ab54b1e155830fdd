"""What the resources' wire types have in common. Times are Unix seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar, overload

from msgspec import Meta, Struct

from tenants.pages import Cursor, Listed

T = TypeVar("T")

Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.:/-]+$")]
# PostgreSQL's texts cannot hold the character 0.
Text = Annotated[str, Meta(max_length=300, pattern=r"^[^\x00]*$")]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[int, Meta(ge=1, le=10 * 366 * 86_400)]
MOST_FILTERED = 100


class Body(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a client sends; a field that is not here is refused by its name."""


class Answer(Struct, frozen=True, kw_only=True):
    """What a client gets."""


class Empty(Body, frozen=True, kw_only=True):
    pass


class ListQuery(Body, frozen=True, kw_only=True):
    after: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.limit, after=self.after)


class OrderedQuery(ListQuery, frozen=True, kw_only=True):
    order: Literal["asc", "desc"] = "asc"

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.limit, after=self.after, is_descending=self.order == "desc")


class LongQuery(OrderedQuery, frozen=True, kw_only=True):
    """Of lists that OpenAI gives by up to 1,000."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Page(Answer, Generic[T], frozen=True, kw_only=True):
    """Part of a list; ``after=last_id`` gives the next one if ``has_more``."""

    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool
    next: str | None  # last_id, if there is more
    object: Literal["list"] = "list"


class Deleted(Answer, frozen=True, kw_only=True):
    id: str
    object: str
    deleted: bool = True


class Removed(Answer, frozen=True, kw_only=True):
    """Something without an identifier of its own is gone."""

    object: str
    deleted: bool = True


class ErrorDetail(Answer, frozen=True, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(Answer, frozen=True, kw_only=True):
    error: ErrorDetail


def page_of(found: Listed[Any], data: list[Any]) -> Page[Any]:
    """The page whose items ``data`` are what ``found.rows`` look like to clients."""
    ids = [found.id_of(row) for row in (found.rows[:1] + found.rows[-1:])]
    last = ids[-1] if ids else None
    return Page(
        data=data,
        first_id=ids[0] if ids else None,
        last_id=last,
        has_more=found.has_more,
        next=last if found.has_more else None,
    )


@overload
def unix(moment: datetime) -> int: ...
@overload
def unix(moment: datetime | None) -> int | None: ...
def unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
