"""Which rules there are by which an exchange finds a message's destinations: a row each."""

from shards.model.exchanges.consistent_hash import ConsistentHashExchange
from shards.model.exchanges.direct import DirectExchange
from shards.model.exchanges.exchange import Exchange
from shards.model.exchanges.fanout import FanoutExchange
from shards.model.exchanges.headers import HeadersExchange
from shards.model.exchanges.topic import TopicExchange

RULES: dict[str, type[Exchange]] = {
    kind.type: kind for kind in (DirectExchange, FanoutExchange, TopicExchange, HeadersExchange, ConsistentHashExchange)
}
