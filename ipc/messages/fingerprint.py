"""One short hash over the schemas of all messages, so that two processes of different versions never talk."""

import hashlib
from functools import cache
from typing import Any

import msgspec

from ipc.messages import inventory
from ipc.messages.commands import ShardCommand, TemplateCommand
from ipc.messages.management import ManagementCommand, ManagementReport
from ipc.messages.reports import ShardReport, TemplateReport


@cache
def fingerprint() -> str:
    """16 hexadecimal digits that change when any message between our processes, field, type or bound does."""
    return fingerprint_of(
        ShardCommand,
        TemplateCommand,
        ShardReport,
        TemplateReport,
        ManagementCommand,
        ManagementReport,
        inventory.Request,
        inventory.Item,
    )


def fingerprint_of(*messages: Any) -> str:
    """The same for these messages."""
    schemas, components = msgspec.json.schema_components(messages)
    return hashlib.sha256(msgspec.json.encode([schemas, components], order="deterministic")).hexdigest()[:16]
