"""What owners give back beside declared collections, and the tests that prove it: a table of docs/memory.md."""

from typing import Final, NamedTuple

from runtime.auth.directory import Directory
from runtime.auth.guesses import Guesses
from runtime.management.reclaim import Reclaim
from runtime.own_pass import OwnPass
from runtime.supervisor.log_ring import LogRing
from shards.host.pump import Pump
from shards.protocols.amqp.outbox import Outbox
from shards.protocols.amqp.publishing import Content
from shards.protocols.amqp.transacting import Transaction
from shards.store.definitions import Definitions
from shards.store.files import DiskFiles
from shards.store.message_store import MessageStore
from shards.store.priority_store import PriorityStore
from shards.store.register import Register

AT_ONCE: Final = "at once"
_OWN_STEPS: Final = "tests/host/test_own_steps.py"
_GIVING_BACK: Final = "tests/store/test_giving_back.py"


class GivenBack(NamedTuple):
    """One thing of an owner; `kind` as reports and accounts name it, empty where nobody can tell how much it is."""

    owner: type
    what: str
    kind: str
    level: str
    test: str


GIVEN_BACK: Final = (
    GivenBack(
        Pump,
        "the receive buffer, where a large frame made it larger",
        "buffer",
        "trim",
        f"{_OWN_STEPS}::test_a_receive_buffer_that_a_large_frame_needed_gets_small_again",
    ),
    GivenBack(
        DiskFiles,
        "pages that maps have faulted in",
        "mapped pages",
        "critical",
        f"{_OWN_STEPS}::test_maps_give_up_what_they_have_faulted_in_when_memory_is_critical",
    ),
    GivenBack(
        Definitions,
        "SQLite's cache of pages",
        "",
        "release",
        "tests/store/test_definitions.py::test_compaction_drops_the_page_cache_in_a_thread_where_pages_are_released",
    ),
    GivenBack(
        MessageStore,
        "the segment that is written to, when all of it is settled, with the offsets of that",
        "settled segment",
        "trim",
        f"{_GIVING_BACK}::test_a_settled_active_segment_goes_at_the_gentlest_level",
    ),
    GivenBack(
        MessageStore,
        "pages of cold segments",
        "segment pages",
        "release",
        f"{_GIVING_BACK}::test_cold_segments_are_released_but_never_the_ones_in_use",
    ),
    GivenBack(
        Register,
        "segments that have gone before a checkpoint came to make them known",
        "register",
        "trim",
        f"{_GIVING_BACK}::test_segments_that_have_gone_before_they_were_made_known_are_forgotten",
    ),
    GivenBack(
        PriorityStore,
        "levels that hold nothing",
        "priority level",
        "trim",
        f"{_OWN_STEPS}::test_levels_of_priority_that_hold_nothing_go",
    ),
    GivenBack(
        Transaction,
        "`_messages` that are not committed",
        "transactions",
        AT_ONCE,
        f"{_OWN_STEPS}::test_what_a_transaction_kept_goes_with_its_end",
    ),
    GivenBack(
        Content,
        "`body`, of which a part has come",
        "incoming messages",
        AT_ONCE,
        f"{_OWN_STEPS}::test_a_body_that_came_in_part_goes_with_its_rest_or_its_channel",
    ),
    GivenBack(
        Outbox,
        "`buffer`, which the client has not read",
        "outbox",
        AT_ONCE,
        f"{_OWN_STEPS}::test_an_outbox_that_was_sent_gives_its_room_back",
    ),
    GivenBack(
        LogRing,
        "the oldest lines of the log",
        "LogRing",
        "release; more at critical",
        "tests/runtime/supervisor/test_log_ring.py::test_a_pass_lets_the_oldest_lines_go",
    ),
    GivenBack(
        Guesses,
        "whom nobody has to wait for any more",
        "Guesses",
        "critical",
        "tests/runtime/auth/test_guesses.py::test_what_has_ended_is_forgotten_and_nobody_who_has_to_wait_or_is_known",
    ),
    GivenBack(
        Directory,
        "SQLite's cache of pages",
        "",
        "release",
        "tests/runtime/auth/test_directory.py::test_its_cache_of_pages_goes_unless_somebody_changes_something",
    ),
    GivenBack(
        OwnPass,
        "what functions remember of clients and requests",
        "",
        "release",
        "tests/runtime/test_owner.py::test_what_is_held_beside_collections_goes_with_the_allocators_pages",
    ),
    GivenBack(
        Reclaim,
        "the whole process behind the API, while nobody asks",
        "process",
        "critical",
        "tests/management/test_process.py::test_where_memory_is_critical_it_ends_and_comes_with_the_next_request",
    ),
)


def table() -> str:
    rows = ["| owner | what | counted as | from level | proven by |", "|---|---|---|---|---|"]
    for one in GIVEN_BACK:
        owner = f"{one.owner.__module__}.{one.owner.__name__}"
        rows.append(f"| `{owner}` | {one.what} | {one.kind} | {one.level} | `{one.test}` |")
    return "\n".join(rows)
