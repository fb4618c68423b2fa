"""Request bodies and list filters, derived from the contracts: no field is typed twice."""

from collections.abc import Collection, Mapping
from copy import copy
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model
from pydantic.fields import FieldInfo

from openqrm.contracts.message import Message, Query
from openqrm.contracts.paging import Paging

NOT_IN_BODIES = frozenset({"operation_id", "requested_by", "expected_revision"})
"""These come by the headers Idempotency-Key and If-Match, and from the login."""

_SHORT_NAMES = {"name_contains": "name"}


def body_model(
    message: type[Message], elsewhere: Collection[str] = (), examples: list[dict[str, Any]] | None = None
) -> type[BaseModel]:
    """A message's fields without those that come from elsewhere."""
    fields = {
        name: (field.annotation, copy(field))
        for name, field in message.model_fields.items()
        if name not in NOT_IN_BODIES and name not in elsewhere
    }
    config = ConfigDict(extra="forbid", frozen=True)
    if examples:
        config["json_schema_extra"] = {"examples": list[Any](examples)}
    model: type[BaseModel] = create_model(
        f"{message.__name__}Body",
        __config__=config,
        __doc__=message.__doc__,
        **fields,  # type: ignore[call-overload]
    )
    return model


def needs_body(body: type[BaseModel]) -> bool:
    """Whether a request without a body cannot be meant."""
    return any(field.is_required() for field in body.model_fields.values())


def given(body: BaseModel | None) -> dict[str, Any]:
    """The fields that the client sent."""
    return {name: getattr(body, name) for name in body.model_fields_set} if body is not None else {}


def filter_model(query: type[Query[Any]], elsewhere: Collection[str] = ()) -> type[BaseModel]:
    """A list query's filters, sort and paging, flat, as a URL has them."""
    paging = query.model_fields["paging"].default
    fields: dict[str, Any] = {}
    for name, field in query.model_fields.items():
        if name != "paging" and name not in elsewhere:
            fields[_SHORT_NAMES.get(name, name)] = (field.annotation, copy(field))
    for name, field in Paging.model_fields.items():
        flat: FieldInfo = copy(field)
        flat.default = getattr(paging, name)
        fields[name] = (field.annotation, flat)
    return create_model(
        f"{query.__name__}Filter", __config__=ConfigDict(extra="forbid", frozen=True), __doc__=query.__doc__, **fields
    )


def as_query(query: type[Query[Any]], filters: BaseModel, others: Mapping[str, Any]) -> Query[Any]:
    """The list query that the filters mean, with what came from elsewhere."""
    values = {name: getattr(filters, name) for name in type(filters).model_fields}
    paging = Paging(**{name: values.pop(name) for name in Paging.model_fields})
    long_names = {short: long for long, short in _SHORT_NAMES.items() if long in query.model_fields}
    named = {long_names.get(name, name): value for name, value in values.items()}
    return query.model_validate({"paging": paging, **others, **named})
