"""Writes a file of definitions, bit by bit: however much there is, only some of it is in memory at a time.

Left out, as in RabbitMQ, is what comes by itself or goes with its client: predeclared exchanges, exclusive queues, and
bindings to either of them that nobody made.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import msgspec

from ipc.messages.inventory import Document, Identity, Kind
from ipc.version import VERSION
from runtime.auth.directory import Directory, VHost
from runtime.management.broker import Broker
from runtime.management.documents import (
    metadata,
    permission_document,
    policies_in,
    policy_value,
    topic_permission_document,
    user_document,
)
from runtime.management.parameters import parameter_documents

_PIECE_BYTES: Final = 64 * 1024
_KINDS: Final[dict[str, Kind]] = {"queues": "queue", "exchanges": "exchange", "bindings": "binding"}
_KEYS: Final = {
    "queues": ("name", "vhost", "durable", "auto_delete", "arguments"),
    "exchanges": ("name", "vhost", "type", "durable", "auto_delete", "internal", "arguments"),
    "bindings": ("source", "vhost", "destination", "destination_type", "routing_key", "arguments"),
}
_encode: Final = msgspec.json.Encoder().encode


async def exported(
    broker: Broker, directory: Directory, vhost: str | None, *, like_rabbitmq: str
) -> AsyncIterator[bytes]:
    """The pieces of a file about everything, or about one vhost and without its name. Raises Unavailable.

    `like_rabbitmq`: the version that such files are written by.
    """
    names = [vhost] if vhost is not None else [owner.name for owner in directory.vhosts()]
    piece = bytearray(b"{")
    for name, value in (_versions(like_rabbitmq) | _accounts(directory, vhost)).items():
        piece += _encode(name) + b":" + _encode(value) + b","
    exclusive: set[tuple[str, str]] = set()
    for section, kind in _KINDS.items():
        piece += (b"" if section == "queues" else b",") + _encode(section) + b":["
        is_first = True
        for name in names:
            async for document in _of_vhost(broker, kind, name):
                if document.get("exclusive"):
                    exclusive.add((name, document["name"]))
                    continue
                if kind == "binding" and (name, document["destination"]) in exclusive:
                    continue
                kept = {key: document[key] for key in _KEYS[section] if vhost is None or key != "vhost"}
                piece += (b"" if is_first else b",") + _encode(kept)
                is_first = False
                if len(piece) >= _PIECE_BYTES:
                    yield bytes(piece)
                    piece.clear()
        piece += b"]"
    yield bytes(piece + b"}")


async def _of_vhost(broker: Broker, kind: Kind, vhost: str) -> AsyncIterator[Document]:
    identities = [identity for identity in await broker.identities(kind, vhost) if _is_told(kind, identity)]
    async for document in broker.described(kind, vhost, identities):
        yield document


def _is_told(kind: Kind, identity: Identity) -> bool:
    if kind == "exchange":
        return identity[0] != "" and not identity[0].startswith("amq.")
    return kind != "binding" or identity[0] != ""


def _versions(like_rabbitmq: str) -> dict[str, Any]:
    return {
        "rabbit_version": like_rabbitmq,
        "rabbitmq_version": like_rabbitmq,
        "product_name": "EbbMQ",
        "product_version": VERSION,
    }


def _accounts(directory: Directory, vhost: str | None) -> dict[str, Any]:
    parameters = [doc for doc in parameter_documents(directory) if vhost is None or doc["vhost"] == vhost]
    of_vhosts: dict[str, Any] = {"parameters": parameters, "policies": list(_policies(directory, vhost))}
    if vhost is not None:
        return of_vhosts
    return {
        "users": [user_document(user) for user in directory.users()],
        "vhosts": [_vhost(owner) for owner in directory.vhosts()],
        "permissions": [permission_document(*row) for row in directory.permissions()],
        "topic_permissions": [topic_permission_document(*row) for row in directory.topic_permissions()],
        **of_vhosts,
        "global_parameters": [{"name": name, "value": value} for name, value in directory.global_parameters().items()],
    }


def _vhost(owner: VHost) -> Document:
    said = metadata(owner)
    return {"name": owner.name, **said, "metadata": said}


def _policies(directory: Directory, vhost: str | None) -> Iterator[Document]:
    for owner in directory.vhosts():
        if vhost in (None, owner.name):
            for policy in policies_in(directory, owner.name, is_operator=False):
                yield {"vhost": owner.name, "name": policy.name, **policy_value(policy)}
