"""A template and shards that only talk: `EBBMQ_FAKE` holds their faults, `word` or `word:shard`, with commas between.

```
unstartable   the template ends before its first word      foreign     the template is of another version
dies          a shard ends as soon as it was started       stubborn    a shard does not drain
damaged       no vhost can be opened: its files            unreadable  no vhost can be opened: the file system
mute          a shard never answers a compaction           babbles     a shard says something that is no message
lingers       a shard lives on for a while without its supervisor
deaf          a shard does not answer whether it listens
```
"""

import array
import os
import select
import socket
import sys
import time
from typing import Final

import msgspec

from ipc.messages.commands import CloseVHost, Compact, Drain, OpenVHost, Probe, ShardCommand, SpawnShard, Start
from ipc.messages.fingerprint import fingerprint
from ipc.messages.reports import (
    ChildEnded,
    Drained,
    Hello,
    Listening,
    MemoryReading,
    Reclaimed,
    Report,
    ShardSpawned,
    VHostClosed,
    VHostFailed,
    VHostOpened,
)

FAULTS: Final = frozenset(filter(None, os.environ.get("EBBMQ_FAKE", "").split(",")))
LINGERING_SECONDS: Final = 1.0
PACKET_BYTES: Final = 1 << 18


def has_fault(name: str, shard: int) -> bool:
    return name in FAULTS or f"{name}:{shard}" in FAULTS


def tell(link: socket.socket, report: Report) -> None:
    try:
        link.send(msgspec.msgpack.encode(report))
    except BrokenPipeError:
        pass


def write_log(shard: int, text: str) -> None:
    os.write(2, f"fake shard {shard}: {text}\n".encode())


def rules_of(command: ShardCommand) -> str:
    return f" with {len(command.rules.policies)} policies" if isinstance(command, OpenVHost) else ""


class FakeShard:
    def __init__(self, link: socket.socket, number: int) -> None:
        self.link = link
        self.number = number

    def run(self) -> None:
        tell(self.link, Hello(fingerprint(), "shard", os.getpid()))
        decoder: msgspec.msgpack.Decoder[ShardCommand] = msgspec.msgpack.Decoder(ShardCommand)
        while packet := self.next_packet():
            if self.obey(decoder.decode(packet)):
                return
        if has_fault("lingers", self.number):
            time.sleep(LINGERING_SECONDS)
        write_log(self.number, "supervisor is gone")

    def next_packet(self) -> bytes:
        try:
            return self.link.recv(PACKET_BYTES)
        except ConnectionResetError:  # the other end left without reading everything
            return b""

    def obey(self, command: ShardCommand) -> bool:
        """True when that was the last command."""
        write_log(self.number, f"{type(command).__name__} {getattr(command, 'name', '')}{rules_of(command)}")
        match command:
            case Start():
                return self.start()
            case OpenVHost(name=name, directory=directory):
                tell(self.link, self.opening(name, directory))
            case CloseVHost(name=name):
                tell(self.link, VHostClosed(name))
            case Compact():
                if not has_fault("mute", self.number):
                    tell(self.link, self.reclaimed(command))
            case Probe():
                if not has_fault("deaf", self.number):
                    tell(self.link, Listening())
            case Drain() if not has_fault("stubborn", self.number):
                tell(self.link, Drained(self.number, 0))
                return True
            case _:
                pass
        return False

    def start(self) -> bool:
        if has_fault("babbles", self.number):
            self.link.send(b"\xc1")
        return has_fault("dies", self.number)

    def opening(self, name: str, directory: str) -> Report:
        if has_fault("damaged", self.number) or has_fault("unreadable", self.number):
            return VHostFailed(name, "because the test says so", has_fault("damaged", self.number))
        os.makedirs(directory, exist_ok=True)
        return VHostOpened(name, 0, 0, 0, 0, 0, 0.0)

    def reclaimed(self, command: Compact) -> Reclaimed:
        memory = MemoryReading(3000, 2000, 1000)
        freed = {"dict": 100}
        return Reclaimed(
            self.number,
            command.pass_number,
            command.level,
            command.trigger,
            0.001,
            0.0005,
            0.0004,
            3,
            freed,
            {"/": 100},
            0,
            memory,
            memory,
        )


def main() -> None:
    if "unstartable" in FAULTS:
        sys.exit(3)
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)
    tell(link, Hello("another" if "foreign" in FAULTS else fingerprint(), "template", os.getpid()))
    while True:
        if select.select([link], [], [], 0.02)[0] and not fork_one(link):
            return
        reap(link)


def fork_one(link: socket.socket) -> bool:
    try:
        packet, ancillary, _flags, _address = link.recvmsg(PACKET_BYTES, 64, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return False
    if not packet:
        return False
    command = msgspec.msgpack.decode(packet, type=SpawnShard)
    descriptors = array.array("i", b"".join(payload for _level, _kind, payload in ancillary))
    with socket.socket(fileno=descriptors[0]) as end:
        pid = os.fork()
        if pid == 0:
            link.close()
            FakeShard(end, command.shard).run()
            os._exit(0)
    tell(link, ShardSpawned(command.shard, pid))
    return True


def reap(link: socket.socket) -> None:
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            tell(link, ChildEnded(ended[0], os.waitstatus_to_exitcode(ended[1])))
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
