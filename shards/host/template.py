"""The template: a small process that has imported everything a shard needs and forks one whenever it is told.

A shard forked from here shares its code pages with its siblings (measured: 7 MiB PSS, not 19). The standard library's
forkserver would do the same, but imports the supervisor's main module again in every child, keeps a tracker process and
hides how children end; this loop is single-threaded, runs nothing else and reports each end. It ends with its
supervisor.

Started as `python -m shards.host.template FD`, where FD is its end of the supervisor's link.
"""

import array
import contextlib
import gc
import os
import select
import signal
import socket
import sys
from typing import Final

import msgspec

from ipc.allocator import fill_holes, trim_allocator
from ipc.limits import PACKET_BYTES_MAX, PACKET_DESCRIPTORS_MAX
from ipc.messages.commands import SpawnShard
from ipc.messages.fingerprint import fingerprint
from ipc.messages.reports import ChildEnded, Hello, Report, ShardSpawned
from shards.host import shard

_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(PACKET_DESCRIPTORS_MAX * array.array("i").itemsize)
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Template:
    """Forks on command; `link` is a blocking SEQPACKET socket, because there is no event loop here to be copied."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(SpawnShard).decode
        self._wakeup_read, self._wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Serve until the supervisor is gone."""
        signal.set_wakeup_fd(self._wakeup_write)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._report(Hello(fingerprint(), "template", os.getpid()))
        poller = select.poll()
        poller.register(self._link, select.POLLIN)
        poller.register(self._wakeup_read, select.POLLIN)
        while True:
            for descriptor, _events in poller.poll():
                if descriptor == self._wakeup_read:
                    self._reap()
                elif not self._obey():
                    return

    def _obey(self) -> bool:
        try:
            packet, ancillary, _flags, _address = self._link.recvmsg(
                PACKET_BYTES_MAX, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:  # the supervisor died with something of ours unread
            return False
        if not packet:
            return False
        command = self._decode(packet)
        descriptors = array.array("i")
        for _level, _kind, payload in ancillary:
            descriptors.frombytes(payload)
        end = socket.socket(fileno=descriptors[0])
        pid = os.fork()
        if pid == 0:
            self._become_shard(end, command.shard)
        end.close()
        self._report(ShardSpawned(command.shard, pid))
        return True

    def _become_shard(self, end: socket.socket, number: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._wakeup_read)
        os.close(self._wakeup_write)
        self._link.close()
        try:
            shard.main(end, number)
        except BaseException:  # noqa: BLE001 - a fork must not return into the loop it came from
            sys.excepthook(*sys.exc_info())
        os._exit(1)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wakeup_read, 512):
                pass
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self._report(ChildEnded(pid, os.waitstatus_to_exitcode(status)))

    def _report(self, report: Report) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._link.send(self._encode(report))


def main() -> None:
    # The terminal's Ctrl-C and a group's TERM are the supervisor's to hear: it drains the shards in order.
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)
    gc.collect()
    gc.freeze()
    trim_allocator()
    fill_holes()
    Template(link).run()


if __name__ == "__main__":
    main()
