"""Messages by hand: published to an exchange, taken from a queue to look at, or thrown away."""

import base64
import binascii
from typing import Annotated, Any, Final, Literal, TypeAlias

from litestar import delete, post
from litestar.datastructures import State
from msgspec import Meta, Struct
from pamqp import commands

from ipc.limits import GOT_BYTES_MAX, LISTED_MAX
from ipc.messages.inventory import Discard, Document
from runtime.management import answers, message_properties
from runtime.management.access import ApiRequest
from runtime.management.bodies import read_body
from runtime.management.broker import Broker
from runtime.management.describing import does, gives, gives_all, query_number
from runtime.management.errors import ApiError, BadRequest, NotFound
from runtime.management.inner_client import InnerClient, Message, inner_client
from runtime.management.message_properties import Properties
from runtime.management.paging import number
from runtime.management.resources.bindings import exchange_named

AckMode: TypeAlias = Literal[
    "ack_requeue_true", "reject_requeue_true", "ack_requeue_false", "reject_requeue_false", "get"
]
_GIVES_BACK: Final = frozenset({"ack_requeue_true", "reject_requeue_true"})
_COUNT_MAX: Final = 2**63 - 1


class PublishBody(Struct, frozen=True):
    """A message, and the key it is routed by."""

    routing_key: str
    payload: str
    properties: Properties | Annotated[list[Any], Meta(max_length=0)]
    payload_encoding: Literal["string", "base64"]


class GetBody(Struct, frozen=True):
    """Which messages, and what is to become of them; `ack_mode` and `requeue` are LavinMQ's words for `ackmode`."""

    count: Annotated[int, Meta(ge=0)] = 1
    ackmode: AckMode | None = None
    ack_mode: AckMode | None = None
    requeue: bool | None = None
    encoding: Literal["auto", "base64"] = "auto"
    truncate: Annotated[int, Meta(ge=0)] | None = None

    @property
    def mode(self) -> AckMode:
        """Raises BadRequest where it is not said: it decides whether messages are lost."""
        said = self.ackmode or self.ack_mode
        if said is not None:
            return said
        if self.requeue is None:
            raise BadRequest(
                "ackmode is missing: one of ack_requeue_true, reject_requeue_true, ack_requeue_false, "
                "reject_requeue_false"
            )
        return "ack_requeue_true" if self.requeue else "ack_requeue_false"


@post(
    "/exchanges/{vhost:str}/{name:str}/publish",
    summary="Publish a message",
    status_code=200,
    operation_class=gives(answers.Routed, body=PublishBody),
)
async def publish(request: ApiRequest, state: State, vhost: str, name: str) -> Document:
    """Answers when it is as safe as its kind promises; `routed`: some queue took it."""
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    body = await read_body(request, PublishBody)
    payload = _payload(body)
    said = body.properties if isinstance(body.properties, Properties) else Properties()
    parts = message_properties.encoded(said)
    async with inner_client(broker, request.user.name, vhost) as client:
        is_routed = await client.publish(exchange_named(name), body.routing_key, parts, payload)
    return {"routed": is_routed}


def _payload(body: PublishBody) -> bytes:
    try:
        if body.payload_encoding == "base64":
            return base64.b64decode(body.payload, validate=True)
        return body.payload.encode()
    except (binascii.Error, ValueError) as fault:
        raise BadRequest(f"payload is not {body.payload_encoding}: {fault}") from fault


# taking ---------------------------------------------------------------------------------------------------------------


@post(
    "/queues/{vhost:str}/{name:str}/get",
    summary="Take messages, and give them back or not",
    status_code=200,
    operation_class=gives_all(answers.Message, body=GetBody),
)
async def get_messages(request: ApiRequest, state: State, vhost: str, name: str) -> list[Document]:
    """The next messages, fewer than `count` where the queue has fewer or they are too much for one answer."""
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    body = await read_body(request, GetBody)
    mode = body.mode
    async with inner_client(broker, request.user.name, vhost) as client:
        messages = await _take(client, name, min(body.count, LISTED_MAX), body)
        documents = [_document(message, body) for message in messages]
        # What is not settled when the client leaves goes back to its place.
        if messages and mode not in _GIVES_BACK:
            last = messages[-1].tag
            if mode == "reject_requeue_false":
                await client.say(commands.Basic.Nack, delivery_tag=last, multiple=True, requeue=False)
            else:
                await client.say(commands.Basic.Ack, delivery_tag=last, multiple=True)
    return documents


async def _take(client: InnerClient, queue: str, count: int, body: GetBody) -> list[Message]:
    """Raises ApiError (413) when not even the first fits."""
    kept_bytes_max = GOT_BYTES_MAX + 1 if body.truncate is None else min(body.truncate, GOT_BYTES_MAX)
    taken: list[Message] = []
    left = GOT_BYTES_MAX
    while len(taken) < count:
        message = await client.get(queue, kept_bytes_max=kept_bytes_max)
        if message is None:
            break
        left -= len(message.content.body) + len(message.content.header)
        if left < 0 and not taken:
            raise ApiError(
                413, f"a message of {message.content.body_bytes} bytes: truncate it to less than {GOT_BYTES_MAX}"
            )
        if left < 0:
            break
        taken.append(message)
    return taken


def _document(message: Message, body: GetBody) -> Document:
    content = message.content
    shown = content.body
    text = None
    if body.encoding == "auto":
        try:
            text = shown.decode()
        except UnicodeDecodeError:
            pass
    return {
        "payload_bytes": content.body_bytes,
        "redelivered": message.redelivered,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "message_count": message.ready,
        "properties": message_properties.decoded(content.header),
        "payload": base64.b64encode(shown).decode() if text is None else text,
        "payload_encoding": "base64" if text is None else "string",
    }


@delete(
    "/queues/{vhost:str}/{name:str}/contents",
    summary="Throw ready messages away",
    operation_class=does(query_number("count", "The next so many; all without it.", low=1, high=_COUNT_MAX)),
)
async def purge(request: ApiRequest, state: State, vhost: str, name: str) -> None:
    """All, or the next `count`; what is handed out stays."""
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    count = number(request.query_params, "count", None, 1, _COUNT_MAX)
    if count is not None:
        await broker.perform(Discard(vhost, name, count, request.user.behalf(vhost)), vhost)
        return
    if not await broker.has("queue", vhost, name):
        raise NotFound
    async with inner_client(broker, request.user.name, vhost) as client:
        await client.ask(commands.Queue.Purge, commands.Queue.PurgeOk, queue=name)


MESSAGES: Final[list[Any]] = [publish, get_messages, purge]
