"""What is always there in the answers that `/docs` describes; most of them have more in them."""

from typing import Any, Literal

from msgspec import Struct


class Exchange(Struct):
    name: str
    vhost: str
    type: str
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: dict[str, Any]


class Queue(Struct):
    name: str
    vhost: str
    durable: bool
    auto_delete: bool
    exclusive: bool
    arguments: dict[str, Any]
    node: str
    state: str


class Binding(Struct):
    source: str
    vhost: str
    destination: str
    destination_type: Literal["queue", "exchange"]
    routing_key: str
    arguments: dict[str, Any]
    properties_key: str


class Connection(Struct):
    name: str
    vhost: str
    user: str
    node: str


class Channel(Struct):
    name: str
    vhost: str
    user: str
    number: int
    connection_details: dict[str, Any]


class Consumer(Struct):
    consumer_tag: str
    queue: dict[str, Any]
    channel_details: dict[str, Any]


class Message(Struct):
    payload: str
    payload_bytes: int
    payload_encoding: Literal["string", "base64"]
    exchange: str
    routing_key: str
    redelivered: bool
    message_count: int
    properties: dict[str, Any]


class Routed(Struct):
    routed: bool


class User(Struct):
    name: str
    password_hash: str
    hashing_algorithm: str
    tags: list[str]
    limits: dict[str, int]


class UserLimits(Struct):
    user: str
    value: dict[str, int]


class VHost(Struct):
    name: str
    description: str
    tags: list[str]
    default_queue_type: str
    metadata: dict[str, Any]
    tracing: bool
    cluster_state: dict[str, str]
    messages: int
    messages_ready: int
    messages_unacknowledged: int


class VHostLimits(Struct):
    vhost: str
    value: dict[str, int]


class Permission(Struct):
    user: str
    vhost: str
    configure: str
    write: str
    read: str


class TopicPermission(Struct):
    user: str
    vhost: str
    exchange: str
    write: str
    read: str


class Policy(Struct, rename={"apply_to": "apply-to"}):
    vhost: str
    name: str
    pattern: str
    apply_to: str
    definition: dict[str, Any]
    priority: int


class Parameter(Struct):
    value: Any
    vhost: str
    component: str
    name: str


class GlobalParameter(Struct):
    name: str
    value: Any


class Name(Struct):
    name: str


class WhoAmI(Struct):
    name: str
    tags: list[str]


class Hash(Struct):
    ok: str
    password_hash: str
    hashing_algorithm: str


class LoginAttempts(Struct):
    protocol: str
    auth_attempts: int
    auth_attempts_failed: int
    auth_attempts_succeeded: int


class Health(Struct):
    status: Literal["ok", "failed"]


class Log(Struct):
    level: Literal["debug", "info", "warning", "error"]
    format: Literal["text", "json"]
    location: str
    lines: int
    size_bytes: int
    size_bytes_max: int


class Node(Struct):
    name: str
    running: bool
    uptime: int
    mem_used: int
    mem_limit: int
    mem_alarm: bool
    disk_free: int
    disk_free_alarm: bool


class Overview(Struct):
    node: str
    product_name: str
    product_version: str
    rabbitmq_version: str
    cluster_name: str
    object_totals: dict[str, int]
    queue_totals: dict[str, Any]
    message_stats: dict[str, Any]
    churn_rates: dict[str, Any]
    listeners: list[dict[str, Any]]


class Memory(Struct):
    shards: list[dict[str, Any]]
    processes: list[dict[str, Any]]
    largest: dict[str, list[dict[str, Any]]]
    silent: list[dict[str, Any]]


class Pass(Struct):
    number: int
    level: str
    trigger: str
    reclaimed: list[dict[str, Any]]


class DryRun(Struct):
    shards: list[dict[str, Any]]
    processes: list[dict[str, Any]]
    silent: list[dict[str, Any]]
