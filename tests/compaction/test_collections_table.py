"""docs/memory.md says of every collection what is so, and each is proven by a test that exists."""

import importlib
import re

from tests.compaction.collections_table import (
    MANAGEMENT_TEST,
    PAGE,
    SHARD_TEST,
    SUPERVISOR_TEST,
    of_management,
    of_shards,
    of_supervisor,
    stands_in,
    table,
)


def test_the_table_in_docs_is_up_to_date() -> None:
    assert stands_in(PAGE.read_text()) == table(), "run make memory-table"


def test_every_collection_is_proven_by_a_test_that_exists() -> None:
    proofs = set(re.findall(r"`(tests/\S+)::(test_\w+)\[([\w.]+)\]`", stands_in(PAGE.read_text())))
    wanted = {(*SHARD_TEST.split("::"), one.label) for one in of_shards()}
    wanted |= {(*SUPERVISOR_TEST.split("::"), one.label) for one in of_supervisor()}
    wanted |= {(*MANAGEMENT_TEST.split("::"), one.label) for one in of_management()}

    assert proofs == wanted
    for path, name, _label in proofs:
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        assert callable(getattr(module, name))
