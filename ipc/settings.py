"""The settings of a broker: typed, bounded, each with its default and its reason in `conf/ebbmq.toml`.

Only the shape lives here, because supervisor and shards must agree on it; reading files, environment and flags is
`runtime/cli/`'s business.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ipc.limits import ARGON2_KIB_MAX, ARGON2_KIB_MIN, ARGON2_LANES_MAX, ARGON2_ROUNDS_MAX

Port = Annotated[int, Meta(ge=0, le=65535)]
PortOrNone = Annotated[int, Meta(ge=-1, le=65535)]  # -1: none
Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Pause = Annotated[float, Meta(ge=0.1)]
Ratio = Annotated[float, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
FrameMax = Annotated[int, Meta(ge=4096, le=16 * 1024 * 1024)]
ChannelMax = Annotated[int, Meta(ge=1, le=65535)]
Heartbeat = Annotated[int, Meta(ge=0, le=65535)]
Argon2Kib = Annotated[int, Meta(ge=ARGON2_KIB_MIN, le=ARGON2_KIB_MAX)]
Argon2Rounds = Annotated[int, Meta(ge=1, le=ARGON2_ROUNDS_MAX)]
Argon2Lanes = Annotated[int, Meta(ge=1, le=ARGON2_LANES_MAX)]
SegmentBytes = Annotated[int, Meta(ge=64 * 1024, le=1024 * 1024 * 1024)]

Durability = Literal["fsync", "os"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
Kind = Literal["dict", "set", "OrderedDict", "defaultdict", "array", "deque"]


class MainSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[main]`: where the data is and how many shards hold it."""

    data_dir: str = "~/.local/share/ebbmq"
    shards: Annotated[int, Meta(ge=1, le=256)] = 2
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    log_file: str = ""
    drain_seconds: Seconds = 10.0
    shard_restart_seconds_min: Seconds = 0.1
    shard_restart_seconds_max: Seconds = 2.0
    shard_restarts_per_minute_max: Positive = 30
    shard_silent_seconds: Pause = 5.0
    shard_silent_seconds_max: Seconds = 600.0


class AmqpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[amqp]`: the listener and what it negotiates."""

    bind: str = "127.0.0.1,::1"
    port: Port = 5672
    frame_max: FrameMax = 131072
    channel_max: ChannelMax = 2047
    heartbeat: Heartbeat = 60
    message_bytes_max: Positive = 128 * 1024 * 1024
    negotiation_seconds: Seconds = 15.0
    half_open_max: Positive = 1024
    backlog: Positive = 1024


class ManagementSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[management]`: the HTTP API, and the process that answers it while somebody asks."""

    bind: str = "127.0.0.1,::1"
    port: PortOrNone = 15672
    metrics_bind: str = "127.0.0.1,::1"
    metrics_port: PortOrNone = 15692
    backlog: Positive = 128
    idle_seconds: Seconds = 600.0
    body_bytes_max: Positive = 32 * 1024 * 1024
    cluster_name: str = ""


class ConnectionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[connection]`: what one client may occupy."""

    outbox_bytes_high: Positive = 1024 * 1024
    outbox_bytes_low: Count = 256 * 1024
    consumer_prefetch_default: Count = 0
    consumer_timeout_seconds: Seconds = 0.0
    set_timestamps: bool = False


class VHostStoreSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What differs in one vhost; None: as elsewhere."""

    durability: Durability | None = None


class StoreSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[store]`: segments and when a message counts as safe."""

    durability: Durability = "fsync"
    vhosts: dict[str, VHostStoreSettings] = {}
    segment_bytes_max: SegmentBytes = 8 * 1024 * 1024
    descriptors_open_max: Annotated[int, Meta(ge=16)] = 2048
    retry_seconds: Seconds = 1.0

    def durability_of(self, vhost: str) -> Durability:
        """What holds in this vhost."""
        own = self.vhosts.get(vhost)
        return self.durability if own is None or own.durability is None else own.durability


class ShrinkSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What differs for one kind of collection, or in one vhost; None: as elsewhere."""

    ratio: Ratio | None = None
    floor_bytes: Count | None = None
    idle_trim_seconds: Seconds | None = None


class CompactionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[compaction]`: when a collection is worth shrinking and how pressure becomes a pass."""

    ratio: Ratio = 2.0
    floor_bytes: Count = 4096
    kinds: dict[Kind, ShrinkSettings] = {}
    vhosts: dict[str, ShrinkSettings] = {}
    idle_trim_seconds: Seconds = 60.0
    allocator: Literal["libc", "python"] = "libc"
    release_bytes_max: Positive = 512 * 1024 * 1024
    segment_cold_seconds: Seconds = 10.0
    cool_down_seconds: Seconds = 2.0
    escalate_seconds: Seconds = 10.0
    poll_seconds: Seconds = 5.0
    watermark_bytes: Count = 0
    pressure_source: Literal["auto", "systemd", "cgroup", "system", "poll", "none"] = "auto"


class AlarmSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[alarms]`: how much memory and disk the broker may take before publishers wait."""

    memory_share_max: Share = 0.4
    memory_bytes_max: Count = 0
    memory_clear_share: Share = 0.95
    disk_free_bytes_min: Count = 50_000_000
    disk_clear_ratio: Ratio = 1.2
    look_seconds_min: Annotated[float, Meta(ge=0.01)] = 0.1
    look_seconds_max: Annotated[float, Meta(ge=0.01)] = 5.0


class PumpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[pump]`: how a shard waits for its clients."""

    spin_microseconds: Annotated[int, Meta(ge=0, le=1_000_000)] = 50


class UserSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[users]`: the account a first start creates, and what passwords cost whoever guesses."""

    default_user: str = "guest"
    default_password: str = "guest"  # noqa: S105 - RabbitMQ's convention; loopback only
    loopback_only: tuple[str, ...] = ("guest",)
    argon2_memory_kib: Argon2Kib = 19 * 1024
    argon2_iterations: Argon2Rounds = 2
    argon2_lanes: Argon2Lanes = 1
    login_failures_max: Count = 10
    login_failures_max_by_address: Count = 100
    login_failures_max_by_user: Count = 100
    login_failures_seconds: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    track_auth_attempt_source: bool = False


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything `conf/ebbmq.toml` can say; every section may be left out."""

    main: MainSettings = MainSettings()
    amqp: AmqpSettings = AmqpSettings()
    management: ManagementSettings = ManagementSettings()
    connection: ConnectionSettings = ConnectionSettings()
    store: StoreSettings = StoreSettings()
    pump: PumpSettings = PumpSettings()
    compaction: CompactionSettings = CompactionSettings()
    alarms: AlarmSettings = AlarmSettings()
    users: UserSettings = UserSettings()
