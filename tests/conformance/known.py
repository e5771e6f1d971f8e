"""The failures that are not ours to fix, read from the one table of docs/conformance.md where each has its reason."""

import re
from pathlib import Path
from typing import Final

import msgspec

PAGE: Final = Path(__file__).parents[2] / "docs" / "conformance.md"

_BEGIN: Final = "<!-- known failures -->"
_END: Final = "<!-- /known failures -->"
_ROW: Final = re.compile(r"\| (?P<suite>[^|`]+?) \| `(?P<test>[^`]+)` \| (?P<reason>.+?) \|")


class KnownFailure(msgspec.Struct, frozen=True):
    """A row; `*` in `test` stands for anything."""

    suite: str
    test: str
    reason: str

    @property
    def is_steady(self) -> bool:
        """Whether the test fails each time."""
        return not self.reason.startswith("now and then")

    def covers(self, suite: str, test: str) -> bool:
        pattern = ".*".join(map(re.escape, self.test.split("*")))
        return suite == self.suite and re.fullmatch(pattern, test, re.DOTALL) is not None


def read(page: str) -> list[KnownFailure]:
    """Rows between the two marks; the heading has no test in backticks."""
    table = page.partition(_BEGIN)[2].partition(_END)[0]
    return [KnownFailure(**match.groupdict()) for match in map(_ROW.match, table.splitlines()) if match]
