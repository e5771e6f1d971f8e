"""docs/memory.md says of every collection what is so, and each is proven by a test that exists."""

import importlib
import re

from runtime.owner import Owner
from tests.compaction import given_back
from tests.compaction.collections_table import (
    BESIDE_BEGIN,
    BESIDE_END,
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
from tests.host.test_heap_walk import kinds_of_owners


def test_the_table_in_docs_is_up_to_date() -> None:
    assert stands_in(PAGE.read_text()) == table(), "run make memory-table"
    assert stands_in(PAGE.read_text(), BESIDE_BEGIN, BESIDE_END) == given_back.table(), "run make memory-table"


def test_every_collection_is_proven_by_a_test_that_exists() -> None:
    proofs = set(re.findall(r"`(tests/\S+)::(test_\w+)\[([\w.]+)\]`", stands_in(PAGE.read_text())))
    wanted = {(*SHARD_TEST.split("::"), one.label) for one in of_shards()}
    wanted |= {(*SUPERVISOR_TEST.split("::"), one.label) for one in of_supervisor()}
    wanted |= {(*MANAGEMENT_TEST.split("::"), one.label) for one in of_management()}

    assert proofs == wanted
    for path, name, _label in proofs:
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        assert callable(getattr(module, name))


def test_what_owners_give_back_by_themselves_is_listed_and_proven_by_tests_that_exist() -> None:
    shards = {kind for kind in kinds_of_owners() if "shrink" in vars(kind)}
    runtime = {kind for kind in Owner.__subclasses__() if not {"shed", "release"}.isdisjoint(vars(kind))}

    assert shards | {kind for kind in runtime if kind.__module__.startswith("runtime.")} <= {
        one.owner for one in given_back.GIVEN_BACK
    }
    for one in given_back.GIVEN_BACK:
        path, _, name = one.test.partition("::")
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        assert callable(getattr(module, name)), one.test
