"""What `/docs` says of an endpoint beside its address: what may be asked, what a body may have in it, what is answered.

A handler names it where it is declared, as its `operation_class`, and it is put into words when somebody looks. Tests
ask a broker everything that can be made up from this description, so it has to be as lenient as the broker is: numbers
and truths may come as texts, because RabbitMQ's own tools send them so.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, TypeAlias, cast

import msgspec
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
)
from msgspec import Struct

from runtime.management.paging import PAGE_SIZE_MAX

Json: TypeAlias = dict[str, Any]

JSON: Final = "application/json"
_REFUSED: Final = "Refused"
_WHOLE: Final[Json] = {"type": "integer"}
_TEXT: Final[Json] = {"type": "string"}
_NOTHING: Final[Json] = {"const": ""}  # as if it were not there
_NUMBER_AS_TEXT: Final[Json] = {"type": "string", "pattern": r"^\s*-?[0-9]+\s*$"}
_TRUTHS_ACCEPTED: Final[Json] = {"enum": [True, False, 0, 1, "true", "false", "True", "False", "1", "0"]}


class Problem(Struct, frozen=True):
    """One of the things that are wrong in a file of definitions."""

    where: str
    reason: str


class Fault(Struct, frozen=True):
    """Why a request was not carried out, as RabbitMQ's API says it; `problems` of a file of definitions."""

    error: str
    reason: str
    problems: list[Problem] = []


class Query(Struct, frozen=True):
    """A parameter behind the question mark."""

    name: str
    schema: Json
    told: str = ""


def query_number(name: str, told: str = "", *, low: int = 0, high: int | None = None) -> Query:
    most = {} if high is None else {"maximum": high}
    return Query(name, {"anyOf": [{**_WHOLE, "minimum": low, **most}, _NOTHING]}, told)


def query_flag(name: str, told: str = "") -> Query:
    return Query(name, {"anyOf": [{"type": "boolean"}, _NOTHING]}, told)


def query_text(name: str, told: str = "", **more: Any) -> Query:
    return Query(name, {**_TEXT, **more}, told)


def query_texts(name: str, told: str = "") -> Query:
    """It may be given more than once."""
    return Query(name, {"type": "array", "items": _TEXT}, told)


COLUMNS: Final = query_text("columns", "These and no others, separated by commas; dotted where they lie in another.")
NO_PATH: Final[Mapping[str, Json]] = MappingProxyType({})
PAGING: Final = (
    query_number("page", "An array of everything without it; pages begin with 1.", low=1),
    query_number("page_size", low=1, high=PAGE_SIZE_MAX),
    query_text("name", "Only those with this in their name."),
    query_flag("use_regex", "`name` is a regular expression."),
    query_text("sort", "The column to sort by."),
    query_flag("sort_reverse"),
    COLUMNS,
)

# what handlers say ----------------------------------------------------------------------------------------------------


def lists(item: type[Struct] | None = None, *query: Query, path: Mapping[str, Json] = NO_PATH) -> type[Operation]:
    """A list of these: an array, or one page of it; with `columns` of some of their fields."""
    items = {"type": "array", "items": _some_of(_schema(item))}
    page = _object(
        items=items,
        **dict.fromkeys(("filtered_count", "item_count", "page", "page_count", "page_size", "total_count"), _WHOLE),
    )
    return _described({200: _json({"anyOf": [items, page]})}, query=(*PAGING, *query), path=path)


def gives_all(item: type[Struct] | None = None, *query: Query, body: type[Struct] | None = None) -> type[Operation]:
    """All of these at once."""
    return _described({200: _json({"type": "array", "items": _shown(item, query)})}, query=query, body=body)


def gives(
    item: type[Struct] | None = None,
    *query: Query,
    body: type[Struct] | None = None,
    path: Mapping[str, Json] = NO_PATH,
    failed: int | None = None,
) -> type[Operation]:
    """One of these; `failed` is the status with which the same is said when the answer is no."""
    schema = _shown(item, query)
    answers = {status: _json(schema) for status in (200, failed) if status is not None}
    return _described(answers, query=query, body=body, path=path)


def makes(body: type[Struct], *, path: Mapping[str, Json] = NO_PATH) -> type[Operation]:
    """201 where it is new, 204 where it was there."""
    return _described({201: {}, 204: {}}, body=body, path=path)


def binds(body: type[Struct], *, path: Mapping[str, Json] = NO_PATH) -> type[Operation]:
    """201, always."""
    return _described({201: {}}, body=body, path=path)


def does(
    *query: Query,
    body: type[Struct] | None = None,
    path: Mapping[str, Json] = NO_PATH,
    headers: Iterable[Query] = (),
) -> type[Operation]:
    """204, without a body."""
    return _described({204: {}}, query=query, body=body, path=path, headers=headers)


def tells(*media: str, query: Iterable[Query] = (), headers: Iterable[Query] = ()) -> type[Operation]:
    """A text in one of these formats."""
    schemas = {one: _json({"type": "array"})[JSON] if one == JSON else _media(_TEXT) for one in media}
    return _described({200: schemas}, query=query, headers=headers)


def refuses() -> type[Operation]:
    """400, always."""
    return _described({})


def imports(file: type[Struct]) -> type[Operation]:
    """A file as the body, or in a form."""
    form = _object(file={"type": "string", "contentMediaType": JSON})
    return _described({204: {}}, body=file, form=form)


# in OpenAPI's words ---------------------------------------------------------------------------------------------------

Content: TypeAlias = dict[str, OpenAPIMediaType]


def _described(
    answers: Mapping[int, Content],
    *,
    query: Iterable[Query] = (),
    headers: Iterable[Query] = (),
    body: type[Struct] | None = None,
    form: Json | None = None,
    path: Mapping[str, Json] = NO_PATH,
) -> type[Operation]:
    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            parameters = [one for one in self.parameters or () if isinstance(one, Parameter)]
            for one in parameters:
                one.schema = cast(Schema, path.get(one.name) or one.schema)
            self.parameters = [
                *parameters,
                *(_parameter(one, "query") for one in query),
                *(_parameter(one, "header") for one in headers),
            ]
            self.request_body = None if body is None else _request_body(body, form)
            faults = [400, 401, 429, 503, *([404] if parameters else []), *([413, 415] if body else [])]
            self.responses = {str(status): Reference(ref=f"#/components/responses/{_REFUSED}") for status in faults}
            self.responses |= {str(status): _response(status, content) for status, content in answers.items()}

    return Described


def _response(status: int, content: Content) -> OpenAPIResponse:
    return OpenAPIResponse(description=HTTPStatus(status).phrase, content=content or None)


def _parameter(query: Query, where: Any) -> Parameter:
    schema = cast(Schema, query.schema)
    return Parameter(name=query.name, param_in=where, schema=schema, description=query.told or None)


def _request_body(body: type[Struct], form: Json | None) -> RequestBody:
    schema = _lenient(_schema(body))
    content = _json(schema)
    if form is not None:
        content["multipart/form-data"] = _media(form)
    return RequestBody(content=content, required=bool(schema.get("required")))


def _json(schema: Json) -> Content:
    return {JSON: _media(schema)}


def _media(schema: Json) -> OpenAPIMediaType:
    return OpenAPIMediaType(schema=cast(Schema, schema))


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _schema(kind: type[Struct] | None) -> Json:
    """In one piece: none of our types has itself in it. Without a type: an object, whatever is in it."""
    if kind is None:
        return {"type": "object"}
    (schema,), named = msgspec.json.schema_components([kind])
    return cast(Json, _resolved(schema, named))


def _resolved(schema: Any, named: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_resolved(one, named) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(named[schema["$ref"].rpartition("/")[2]], named)
    return {name: _resolved(one, named) for name, one in schema.items()}


def _shown(item: type[Struct] | None, query: Iterable[Query]) -> Json:
    schema = _schema(item)
    return _some_of(schema) if COLUMNS in query else schema


def _some_of(schema: Json) -> Json:
    """The same where any field may be missing."""
    return {name: value for name, value in deepcopy(schema).items() if name != "required"}


def _lenient(schema: Any) -> Any:
    """What is taken where this is asked for."""
    if isinstance(schema, list):
        return [_lenient(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "integer":
        return {"anyOf": [schema, _NUMBER_AS_TEXT]}
    if schema.get("type") == "boolean":
        return _TRUTHS_ACCEPTED
    return {name: one if name in ("enum", "default", "required") else _lenient(one) for name, one in schema.items()}


def components() -> Components:
    """What all of them have in common."""
    return Components(
        responses={_REFUSED: OpenAPIResponse(description="It is not carried out", content=_json(_schema(Fault)))},
        security_schemes={"basic": SecurityScheme(type="http", scheme="basic")},
    )
