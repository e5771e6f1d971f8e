"""What options of several scenarios accept."""

import json
import math
from typing import Any, Final

import click

WORKERS_MAX: Final = 10_000  # of a kind; the kernel's limits on processes and descriptors come first
PROCESSES_MAX: Final = 400  # of a kind; select watches descriptors below 1,024
QUEUES_MAX: Final = 1_000_000
UNCONFIRMED_MAX: Final = 10_000_000  # a byte each in every publisher
BODY_BYTES_MAX: Final = 128 * 1024 * 1024  # what brokers take at most, unless told otherwise


class FiniteRange(click.FloatRange):
    """Python's floats know `nan` and `inf`, clocks do not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no number to count with", param, ctx)
        return found


COUNT: Final = click.IntRange(min=0)
WORKERS: Final = click.IntRange(min=0, max=WORKERS_MAX)
SOME_WORKERS: Final = click.IntRange(min=1, max=WORKERS_MAX)
PROCESSES: Final = click.IntRange(min=0, max=PROCESSES_MAX)
RATE: Final = FiniteRange(min=0, max=1e9)
BODY_BYTES: Final = click.IntRange(min=0, max=BODY_BYTES_MAX)
WINDOW: Final = click.IntRange(min=0, max=UNCONFIRMED_MAX)
SECONDS: Final = FiniteRange(min=0, max=1e9)


class JsonObject(click.ParamType[dict[str, Any]]):
    """Arguments and properties on the command line."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            found = json.loads(value)
        except (ValueError, RecursionError) as fault:
            self.fail(f"{value} is not JSON: {fault}", param, ctx)
        if not isinstance(found, dict):
            self.fail(f"{value} is no JSON object", param, ctx)
        return found
