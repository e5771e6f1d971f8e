"""What EbbMQ must reach in a case: a bound on a measure, absolute or in proportion to another one."""

from enum import Enum
from typing import Final

from msgspec import Struct

from bench.measures import Measure, Outcome, written


class Whose(Enum):
    """Whose measure a proportion is of."""

    OTHERS = "the other broker's"
    OWN = "its own"


class Target(Struct, frozen=True):
    """`factor` times `of`'s measure, or `factor` itself where there is no `of`."""

    measure: Measure
    is_least: bool
    factor: float
    of: Measure | None = None
    whose: Whose = Whose.OTHERS

    def bound(self, own: Outcome, other: Outcome | None) -> float | None:
        """None while what it is in proportion to is unknown."""
        if self.of is None:
            return self.factor
        base = own if self.whose is Whose.OWN else other
        return None if base is None or self.of not in base else self.factor * base[self.of]

    def is_met(self, own: Outcome, other: Outcome | None) -> bool | None:
        """None where that cannot be told."""
        bound = self.bound(own, other)
        if bound is None or self.measure not in own:
            return None
        return own[self.measure] >= bound if self.is_least else own[self.measure] <= bound

    def told(self, other: str) -> str:
        """For the table; `other` is the name of the other broker."""
        sign = "≥" if self.is_least else "≤"
        if self.of is None:
            unit = " CPU-s" if self.measure is Measure.CPU else ""
            name = f"{self.measure.value} " if not unit and self.measure is not Measure.CHURNED else ""
            return f"{name}{sign} {written(self.measure, self.factor)}{unit}"
        if self.whose is Whose.OWN:
            return f"{self.measure.value} {sign} {self.factor:g} × {self.of.value}"
        name = f"{self.measure.value} " if self.measure is Measure.TOTAL else ""
        return f"{name}{sign} {self.factor:g} × {other}"


def times(factor: float, measure: Measure = Measure.CONSUMED) -> Target:
    """At least so many times what the other broker does."""
    return Target(measure, is_least=True, factor=factor, of=measure)


def at_least(measure: Measure, bound: float) -> Target:
    return Target(measure, is_least=True, factor=bound)


def at_most(measure: Measure, bound: float) -> Target:
    return Target(measure, is_least=False, factor=bound)


KEEPS_UP: Final = Target(
    Measure.CONSUMED, is_least=True, factor=0.8, of=Measure.PUBLISHED, whose=Whose.OWN
)  # consumers do not starve
