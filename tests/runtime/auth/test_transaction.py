"""A transaction on the directory's file: whatever interrupts it, none is left open, and the same can be tried again."""

import itertools
import sqlite3
from pathlib import Path

from runtime.auth.directory_file import transaction


def test_a_transaction_that_is_interrupted_at_any_step_is_over_and_can_be_repeated(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "file", isolation_level=None)
    connection.execute("CREATE TABLE words (word TEXT)")
    for step in itertools.count(1):
        left = step

        def interrupt() -> int:
            nonlocal left
            left -= 1
            return left == 0

        connection.set_progress_handler(interrupt, 1)
        try:
            with transaction(connection):
                connection.execute("INSERT INTO words VALUES ('first')")
        except sqlite3.OperationalError:
            pass
        connection.set_progress_handler(None, 0)
        assert not connection.in_transaction
        with transaction(connection):
            connection.execute("DELETE FROM words")
        if left > 0:
            assert step > 5
            break
    connection.close()
