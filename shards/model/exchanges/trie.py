"""A trie whose paths lead to bindings: a step is a word of a topic's pattern, or a field a headers binding asks for.

```
"orders.*.eu" and "orders.#"      (root) ─ orders ─┬─ * ─ eu ●
                                                   └─ # ●
```
Adding and removing cost the length of the path. What is followed, and how far, is the exchanges' own rule.
"""

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from shards.compaction.compactable import Compactable
from shards.model.bindings import Binding

Step = TypeVar("Step")


class TrieNode(Compactable, Generic[Step]):
    """Where a path has led to so far; its dictionaries exist only while they hold something."""

    __slots__ = ("bindings", "steps")
    COLLECTIONS = ("bindings", "steps")
    KIND = "bindings"

    def __init__(self) -> None:
        self.steps: dict[Step, TrieNode[Step]] | None = None
        self.bindings: dict[Binding, None] | None = None

    def children(self) -> Iterable[Compactable]:
        return self.steps.values() if self.steps else ()

    @property
    def is_empty(self) -> bool:
        return not self.steps and not self.bindings

    def add(self, path: Iterable[Step], binding: Binding) -> None:
        node = self
        for step in path:
            node = node._enter(step)
        if node.bindings is None:
            node.bindings = {}
        node.bindings[binding] = None

    def remove(self, path: Sequence[Step], binding: Binding) -> None:
        """The binding was added with this path; nodes that lead nowhere any more go too."""
        trail = [self]
        for step in path:
            steps = trail[-1].steps
            assert steps is not None
            trail.append(steps[step])
        trail[-1]._forget(binding)
        for parent, step, node in zip(reversed(trail[:-1]), reversed(path), reversed(trail[1:]), strict=True):
            if not node.is_empty:
                return
            parent._leave(step)

    def _enter(self, step: Step) -> "TrieNode[Step]":
        if self.steps is None:
            self.steps = {}
        node = self.steps.get(step)
        if node is None:
            node = self.steps[step] = TrieNode()
        return node

    def _leave(self, step: Step) -> None:
        assert self.steps is not None
        del self.steps[step]
        if not self.steps:
            self.steps = None

    def _forget(self, binding: Binding) -> None:
        assert self.bindings is not None
        del self.bindings[binding]
        if not self.bindings:
            self.bindings = None
