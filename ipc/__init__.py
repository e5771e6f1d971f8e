"""What supervisor, shards and clients must agree on: limits, refusals, settings, wire formats, ipc messages."""

import os

from ipc.speed import choose_speed

choose_speed(os.environ)
