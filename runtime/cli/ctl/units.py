"""Sizes as rabbitmqctl prints and reads them."""

import re
from typing import Final

import click

from ipc.table import size

UNITS: Final = {"bytes": 1, "mb": 1000**2, "gb": 1000**3}
UNIT: Final = click.option(
    "--unit", type=click.Choice(tuple(UNITS)), help="What sizes are printed in. [default: whichever fits]"
)
_FACTORS: Final = {"": 1} | {
    f"{letter}{rest}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for rest, base in (("", 1024), ("i", 1024), ("ib", 1024), ("b", 1000))
}


def in_unit(count: int, unit: str | None) -> str:
    """`0.0347 gb`; `33.1 MiB` where nobody asked for a unit."""
    if unit is None:
        return size(count)
    return f"{count} bytes" if unit == "bytes" else f"{count / UNITS[unit]:.4f} {unit}"


class Size(click.ParamType):  # type: ignore[type-arg]  # click 8.1 knows no argument of it
    """`1GB`, `512MiB`, `50000000`: with RabbitMQ's units, of which those with an i, or a letter alone, are of 1024."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+)\s*([a-zA-Z]*)", str(value).strip())
        factor = _FACTORS.get(match[2].lower()) if match else None
        if match is None or factor is None:
            self.fail(f"{value!r} is no size like 1GB, 512MiB or 50000000", param, ctx)
        return int(match[1]) * int(factor)
