"""Topic exchange: binding keys of words and wildcards in a trie, so that routing does not scan bindings.

```
"orders.*.eu" and "orders.#"      (root) ─ orders ─┬─ * ─ eu ●
                                                   └─ # ●
```
`*` stands for exactly one word, `#` for any number of words, none included.
"""

from collections.abc import Iterable

from shards.compaction.compactable import Compactable
from shards.model.bindings import Binding, Destination
from shards.model.exchanges.exchange import Exchange, Headers


class TopicNode(Compactable):
    """One word of binding keys; its dictionaries exist only while they hold something."""

    __slots__ = ("bindings", "words")
    COLLECTIONS = ("bindings", "words")

    def __init__(self) -> None:
        self.words: dict[str, TopicNode] | None = None
        self.bindings: dict[Binding, None] | None = None

    @property
    def is_empty(self) -> bool:
        return not self.words and not self.bindings

    def children(self) -> Iterable[Compactable]:
        return tuple(self.words.values()) if self.words else ()


class TopicExchange(Exchange):
    """Bindings in a trie of words."""

    __slots__ = ("_root",)
    type = "topic"

    def _prepare(self) -> None:
        self._root = TopicNode()

    def children(self) -> Iterable[Compactable]:
        return (self._root,)

    def match(self, routing_key: str, headers: Headers) -> Iterable[Destination]:
        """Walks only branches that can match. A node is entered at most once for each word position, so that keys like
        `#.#.#.a` cost words × nodes, not words to the power of wildcards."""
        words = _words(routing_key)
        found: dict[Binding, None] = {}
        seen: set[tuple[int, int]] = set()
        pending = [(self._root, 0)]
        while pending:
            node, depth = pending.pop()
            if (id(node), depth) in seen:
                continue
            seen.add((id(node), depth))
            if depth == len(words) and node.bindings:
                found.update(node.bindings)
            if node.words is None:
                continue
            rest = node.words.get("#")
            if rest is not None:
                pending.extend((rest, at) for at in range(depth, len(words) + 1))
            if depth < len(words):
                pending.extend(
                    (child, depth + 1)
                    for child in (node.words.get(words[depth]), node.words.get("*"))
                    if child is not None
                )
        return (binding.destination for binding in found)

    def _add(self, binding: Binding) -> None:
        node = self._root
        for word in _words(binding.routing_key):
            if node.words is None:
                node.words = {}
            node = node.words.setdefault(word, TopicNode())
        if node.bindings is None:
            node.bindings = {}
        node.bindings[binding] = None

    def _remove(self, binding: Binding) -> None:
        path = [self._root]
        words = _words(binding.routing_key)
        for word in words:
            assert path[-1].words is not None
            path.append(path[-1].words[word])
        assert path[-1].bindings is not None
        del path[-1].bindings[binding]
        if not path[-1].bindings:
            path[-1].bindings = None
        for parent, word, node in zip(reversed(path[:-1]), reversed(words), reversed(path[1:]), strict=True):
            if not node.is_empty:
                return
            assert parent.words is not None
            del parent.words[word]
            if not parent.words:
                parent.words = None


def _words(key: str) -> list[str]:
    # An empty key has no word (specification §3.1.3.3), and `*` does not match it.
    return key.split(".") if key else []
