"""What a running broker takes over from settings that were read again, and what has to wait for a restart."""

from typing import Any, Final, NamedTuple

from msgspec import structs

from ipc.settings import Settings

NEEDS_RESTART: Final = frozenset(
    {
        "main.data_dir",
        "main.shards",
        "main.log_format",
        "main.log_file",
        "main.shard_restart_seconds_min",
        "main.shard_restart_seconds_max",
        "main.shard_restarts_per_minute_max",
        "amqp.bind",
        "amqp.port",
        "amqp.backlog",
        "management.bind",
        "management.port",
        "management.metrics_bind",
        "management.metrics_port",
        "management.backlog",
        "store.durability",
        "store.segment_bytes_max",
        "store.descriptors_open_max",
        "store.retry_seconds",
        "pump.spin_microseconds",
        "compaction.allocator",
        "compaction.pressure_source",
        "users.default_user",
        "users.default_password",
        "users.loopback_only",
    }
)


class Reload(NamedTuple):
    """Settings in force from now on, and the names (`section.key`) of what changed or cannot change yet."""

    settings: Settings
    changed: list[str]
    needs_restart: list[str]


def reload(current: Settings, wanted: Settings) -> Reload:
    """Take everything from `wanted` that may change while the broker runs."""
    changed: list[str] = []
    needs_restart: list[str] = []
    sections: dict[str, Any] = {}
    for section in structs.fields(Settings):
        before, after = getattr(current, section.name), getattr(wanted, section.name)
        taken: dict[str, Any] = {}
        for field in structs.fields(before):
            name = f"{section.name}.{field.name}"
            value = getattr(after, field.name)
            if value == getattr(before, field.name):
                continue
            if name in NEEDS_RESTART:
                needs_restart.append(name)
            else:
                changed.append(name)
                taken[field.name] = value
        sections[section.name] = structs.replace(before, **taken)
    return Reload(Settings(**sections), changed, needs_restart)
