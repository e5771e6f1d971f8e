"""Which exchange types there are: those that are a rule, and those that do something with one."""

from shards.model.exchanges.delayed_message import DelayedMessageExchange
from shards.model.exchanges.exchange import Exchange
from shards.model.exchanges.rules import RULES

EXCHANGE_TYPES: dict[str, type[Exchange]] = {**RULES, DelayedMessageExchange.type: DelayedMessageExchange}

PREDECLARED: dict[str, str] = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}
"""Exchanges every vhost has (specification §3.1.3), by type."""
