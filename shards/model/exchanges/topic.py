"""Topic exchange: binding keys of words and wildcards in a trie, so that a route costs words and not bindings.

`*` stands for exactly one word, `#` for any number of words, none included. All branches are followed together, a word
at a time: a node is reached from its parent only, so it is looked at once for each word, and a pattern like `#.#.#.a`
costs words × nodes instead of words to the power of wildcards.
"""

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from shards.compaction.compactable import Compactable
from shards.model.bindings import Binding, Destination
from shards.model.exchanges.exchange import Exchange, Headers
from shards.model.exchanges.trie import TrieNode

ONE: Final = "*"
ANY: Final = "#"

Node: TypeAlias = TrieNode[str]


class TopicExchange(Exchange):
    """Bindings in a trie of words."""

    __slots__ = ("_root",)
    type = "topic"

    def _prepare(self) -> None:
        self._root: Node = TrieNode()

    def children(self) -> Iterable[Compactable]:
        return (*super().children(), self._root)

    @property
    def heeds_every_key(self) -> bool:
        return True

    def match(self, routing_key: str, headers: Headers) -> Iterator[Destination]:
        for node in _reached(self._root, _words(routing_key)):
            if node.bindings:
                for binding in node.bindings:
                    yield binding.destination

    def _add(self, binding: Binding) -> None:
        self._root.add(_words(binding.routing_key), binding)

    def _remove(self, binding: Binding) -> None:
        self._root.remove(_words(binding.routing_key), binding)


def _reached(root: Node, words: list[str]) -> Iterable[Node]:
    """Nodes at which all words are used up, each once."""
    reached = [root]
    staying: dict[Node, None] = {}  # below a `#`, which swallows whatever else comes
    _stay(reached, staying)
    for word in words:
        following = []
        # A word of a message that looks like a wildcard is a word like any other, but no pattern can ask for it.
        literal = word if word not in (ONE, ANY) else None
        for node in (*reached, *staying):
            if node.steps is None:
                continue
            if literal is not None and (child := node.steps.get(literal)) is not None:
                following.append(child)
            if (child := node.steps.get(ONE)) is not None:
                following.append(child)
        if not following and not staying:
            return ()
        reached = following
        _stay(reached, staying)
    return (*reached, *staying)


def _stay(reached: list[Node], staying: dict[Node, None]) -> None:
    """Enter the `#` below each of these nodes, and the `#` below that: they may stand for nothing."""
    for node in reached:
        below = node
        while below.steps is not None and (child := below.steps.get(ANY)) is not None:
            staying[child] = None
            below = child


def _words(key: str) -> list[str]:
    # An empty key has no word (specification §3.1.3.3), and `*` does not match it.
    return key.split(".") if key else []
