"""For tests of whole brokers that take their time and show the same at both speeds: of processes, disks and clocks."""

import os
from typing import Final

import pytest

from ipc.speed import is_pure, read_speed

at_one_speed: Final = pytest.mark.skipif(
    is_pure(os.environ) and not read_speed({}).interpreted, reason="runs with compiled modules, and shows the same"
)
