"""`/api/nodes`: the one node there is, what its processes use and how much of it they may."""

import os
import shutil
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import psutil
import trio
from litestar import get, post, put
from litestar.datastructures import State

from ipc.messages import control
from ipc.messages.inventory import CountAll, Document
from ipc.settings import Count, Share
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, MONITORING, ApiRequest, require
from runtime.management.bodies import read_body
from runtime.management.broker import Broker, Unavailable
from runtime.management.describing import COLUMNS, does, gives, gives_all
from runtime.management.errors import BadRequest, NotFound
from runtime.management.figures import Figures
from runtime.management.paging import Paging, chosen
from runtime.management.resources.overview import EXCHANGE_TYPES, uptime_ms

_MONITOR: Final = [require(MONITORING)]
_LISTENERS: Final[dict[str, control.ControlRequest]] = {
    "suspended": control.SuspendListeners(),
    "open": control.ResumeListeners(),
}


class AlarmLimits(msgspec.Struct, frozen=True):
    """Those that are to change; 0 is no limit."""

    memory_share_max: Share | None = None
    memory_bytes_max: Count | None = None
    disk_free_bytes_min: Count | None = None


class Processes:
    """What the kernel says of all processes of the broker; those that end meanwhile are left out."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.descriptors = 0
        self.user_seconds = self.system_seconds = 0.0
        for pid in pids:
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    times = process.cpu_times()
                    self.descriptors += process.num_fds()
            except psutil.Error:
                continue
            self.user_seconds += times.user
            self.system_seconds += times.system


async def status_of(broker: Broker) -> tuple[control.Broker, list[control.Shard]]:
    """What the supervisor says of itself and its shards. Raises Unavailable."""
    replies = await broker.control(control.Status())
    found = next((reply for reply in replies if isinstance(reply, control.Broker)), None)
    if found is None:
        raise Unavailable("the supervisor does not say how it is")
    return found, [reply for reply in replies if isinstance(reply, control.Shard)]


async def _document(broker: Broker) -> Document:
    status, shards = await status_of(broker)
    pids = [status.pid, os.getpid(), *(shard.pid for shard in shards if shard.pid is not None)]
    processes = await trio.to_thread.run_sync(Processes, pids)
    disk = await trio.to_thread.run_sync(shutil.disk_usage, status.data_directory)
    total = psutil.virtual_memory().total
    figures = Figures.of(await broker.totals(CountAll()))
    connections = figures.objects.get("connections", 0)
    return {
        "name": broker.node,
        "type": "disc",
        "running": True,
        "being_drained": status.state == "draining",
        "uptime": uptime_ms(broker),
        "os_pid": str(status.pid),
        "processors": len(os.sched_getaffinity(0)),
        "run_queue": 0,
        "partitions": [],
        "fd_used": processes.descriptors,
        "fd_total": descriptors_max(status.pid),
        "sockets_used": connections,
        "sockets_total": descriptors_max(status.pid),
        "proc_used": len(pids),
        "proc_total": len(pids),
        "mem_used": status.memory_bytes,
        "mem_limit": status.memory_bytes_max if status.memory_bytes_max is not None else total,
        "mem_total": total,
        "mem_alarm": "memory" in status.alarms,
        "disk_total": disk.total,
        "disk_free": status.disk_free_bytes if status.disk_free_bytes is not None else disk.free,
        "disk_free_limit": status.disk_free_bytes_min,
        "disk_free_alarm": "disk" in status.alarms,
        "cpu_user_time": round(processes.user_seconds * 1000),
        "cpu_sys_time": round(processes.system_seconds * 1000),
        "db_dir": status.data_directory,
        "config_files": [],
        "log_files": [broker.settings.main.log_file or "stderr"],
        "enabled_plugins": [],
        "applications": [],
        "auth_mechanisms": [{"name": name, "description": "", "enabled": True} for name in ("PLAIN", "AMQPLAIN")],
        "exchange_types": [
            {"name": name, "description": description, "enabled": True} for name, description in EXCHANGE_TYPES
        ],
        "rates_mode": "basic",
        "net_ticktime": 60,
        "shards": [
            {
                "shard": shard.shard,
                "pid": shard.pid,
                "vhosts": shard.vhosts,
                "queues": shard.queues,
                "connections": shard.connections,
                "uptime": round(shard.seconds * 1000),
            }
            for shard in shards
        ],
        "pressure_source": status.pressure_source,
        "pressure_level": status.pressure_level,
        **figures.churn_rates(),
    }


def descriptors_max(pid: int) -> int:
    try:
        return int(psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)[0])
    except psutil.Error:
        return 0


@get("/nodes", guards=_MONITOR, summary="All nodes: one", operation_class=gives_all(answers.Node, COLUMNS))
async def nodes(request: ApiRequest, state: State) -> list[Document]:
    return [chosen(await _document(state.broker), Paging.of(request.query_params).columns)]


@get("/nodes/{name:str}", guards=_MONITOR, summary="One node", operation_class=gives(answers.Node, COLUMNS))
async def node(request: ApiRequest, state: State, name: str) -> Document:
    require_known(state.broker, name)
    return chosen(await _document(state.broker), Paging.of(request.query_params).columns)


@get(
    "/nodes/{name:str}/memory",
    guards=_MONITOR,
    summary="What its memory is used for, as RabbitMQ says it",
    operation_class=gives(),
)
async def node_memory(request: ApiRequest, state: State, name: str) -> Document:
    broker: Broker = state.broker
    require_known(broker, name)
    used: dict[str, int] = {}
    total = 0
    for reply in await broker.control(control.Memory(top=0)):
        if isinstance(reply, control.ShardMemory):
            for kind, size_bytes in reply.by_kind.items():
                used[kind] = used.get(kind, 0) + size_bytes
        if isinstance(reply, (control.ShardMemory, control.ProcessMemory)):
            total += reply.reading.private
    rest = max(0, total - sum(used.values()))
    return {"memory": {**used, "other": rest, "total": {"rss": total, "allocated": total}, "strategy": "rss"}}


@get(
    "/nodes/{name:str}/settings",
    guards=[require(ADMINISTRATOR)],
    summary="The settings in force, without passwords",
    operation_class=gives(),
)
async def node_settings(state: State, name: str) -> Document:
    broker: Broker = state.broker
    require_known(broker, name)
    document: Document = msgspec.to_builtins(broker.settings)
    document["users"] = {key: value for key, value in document["users"].items() if key != "default_password"}
    return document


@put(
    "/nodes/{name:str}/alarms",
    guards=[require(ADMINISTRATOR)],
    status_code=204,
    summary="Raise alarms elsewhere",
    operation_class=does(body=AlarmLimits),
)
async def limit_alarms(request: ApiRequest, state: State, name: str) -> None:
    """Until the broker is started again, and whatever its settings say."""
    broker: Broker = state.broker
    require_known(broker, name)
    body = await read_body(request, AlarmLimits)
    await broker.control(control.LimitAlarms(body.memory_share_max, body.memory_bytes_max, body.disk_free_bytes_min))


@put(
    "/nodes/{name:str}/listeners/{wanted:str}",
    guards=[require(ADMINISTRATOR)],
    status_code=204,
    summary="Refuse new AMQP clients (suspended), or let them in (open)",
    operation_class=does(path={"wanted": {"enum": list(_LISTENERS)}}),
)
async def let_in(state: State, name: str, wanted: str) -> None:
    """Clients that are connected go on."""
    broker: Broker = state.broker
    require_known(broker, name)
    request = _LISTENERS.get(wanted)
    if request is None:
        raise BadRequest(f"listeners are {' or '.join(_LISTENERS)}, and not {wanted[:32]!r}")
    for reply in await broker.control(request):
        if isinstance(reply, control.Refused):
            raise Unavailable(reply.text)


@post(
    ["/nodes/gc_collect", "/nodes/{name:str}/gc_collect"],
    guards=[require(ADMINISTRATOR)],
    status_code=204,
    summary="Have memory given back",
    operation_class=does(),
)
async def collect_garbage(request: ApiRequest, state: State) -> None:
    """LavinMQ's word for what is called a pass of level `release` here."""
    broker: Broker = state.broker
    if name := request.path_params.get("name"):
        require_known(broker, name)
    await broker.control(control.Compact("release"))


def require_known(broker: Broker, name: str) -> None:
    """Raises NotFound for what is not this node."""
    if name != broker.node:
        raise NotFound


NODES: Final[list[Any]] = [nodes, node, node_memory, node_settings, limit_alarms, let_in, collect_garbage]
