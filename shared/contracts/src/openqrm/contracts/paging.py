"""Pages of a long list: filters, one sort key, and an opaque cursor that goes on where the last page ended."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item", bound=BaseModel)

MAX_PAGE = 500
"""Items on one page; larger lists are walked by the cursor."""


class Page(BaseModel, Generic[Item]):
    """One page and where the next one begins."""

    model_config = ConfigDict(frozen=True)

    items: tuple[Item, ...]
    next_cursor: str | None = Field(default=None, description="Pass it on to get the next page; null on the last")


class Paging(BaseModel):
    """How to walk a list. The cursor holds for the same filters and the same sort only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int = Field(default=100, ge=1, le=MAX_PAGE)
    cursor: str | None = Field(default=None, max_length=1000)
    descending: bool = False
