"""Which exchange types there are: a row each."""

from shards.model.exchanges.consistent_hash import ConsistentHashExchange
from shards.model.exchanges.direct import DirectExchange
from shards.model.exchanges.exchange import Exchange
from shards.model.exchanges.fanout import FanoutExchange
from shards.model.exchanges.headers import HeadersExchange
from shards.model.exchanges.topic import TopicExchange

EXCHANGE_TYPES: dict[str, type[Exchange]] = {
    kind.type: kind for kind in (DirectExchange, FanoutExchange, TopicExchange, HeadersExchange, ConsistentHashExchange)
}

PREDECLARED: dict[str, str] = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}
"""Exchanges every vhost has (specification §3.1.3), by type."""
