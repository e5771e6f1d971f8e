"""What a person or a program is told: a line a second, a summary, and notes that put it into proportion."""

import json
from collections.abc import Sequence
from typing import Any

import click
from msgspec import Struct

from runtime.cli.perf.crew import Share, Verdict


class Voice(Struct, frozen=True):
    """With JSON, nothing but the summary goes to standard output, so that programs can read it."""

    as_json: bool = False
    is_quiet: bool = False

    def line(self, text: str) -> None:
        """While it runs."""
        if not self.is_quiet:
            click.echo(text, err=self.as_json)

    def note(self, text: str) -> None:
        click.echo(f"Note: {text}", err=self.as_json)

    def summary(self, values: dict[str, Any], sentences: Sequence[str]) -> None:
        if self.as_json:
            click.echo(json.dumps(values))
            return
        click.echo("\nSummary:")
        for sentence in sentences:
            click.echo(sentence)


def tool_values(verdict: Verdict, shares: Sequence[Share]) -> dict[str, Any]:
    """What the load tool itself did, for the summary of any scenario."""
    return {
        "tool_was_limit": verdict.tool_was_limit,
        "cores_were_limit": verdict.cores_were_limit,
        "note": verdict.note,
        "tool_cpu_seconds": cpu_seconds(shares),
        "workers": [
            {
                "name": share.name,
                "busy": round(share.running, 3),
                "waiting_for_core": round(share.waiting, 3),
                "cpu_seconds": round(share.cpu_seconds, 4),
            }
            for share in shares
        ],
    }


def cpu_seconds(shares: Sequence[Share]) -> float:
    return round(sum(share.cpu_seconds for share in shares), 4)


def worker_sentences(shares: Sequence[Share]) -> list[str]:
    """The busiest of them."""
    if not shares:
        return []
    busiest = max(shares, key=lambda share: share.running)
    return [f"Busiest of the load tool: {busiest.name}, {busiest.running:.0%} of a core"]
