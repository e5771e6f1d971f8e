"""One short hash over the schemas of all messages, so that two processes of different versions never talk."""

import hashlib
from functools import cache

import msgspec

from ipc.messages.commands import ShardCommand, TemplateCommand
from ipc.messages.reports import ShardReport, TemplateReport


@cache
def fingerprint() -> str:
    """16 hexadecimal digits that change when any message, field, type or bound does."""
    schemas, components = msgspec.json.schema_components([ShardCommand, TemplateCommand, ShardReport, TemplateReport])
    return hashlib.sha256(msgspec.json.encode([schemas, components], order="deterministic")).hexdigest()[:16]
