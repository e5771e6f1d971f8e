"""Which method means which verb: the table that decides what a channel does with a frame."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from pamqp import commands

from ipc.errors import PreconditionFailed
from ipc.wire.amqp.methods import Method
from shards.model.statistics import CONFIRM
from shards.protocols.amqp import consuming, declaring, settling, transacting
from shards.protocols.amqp.channel import Channel
from shards.protocols.amqp.confirming import Confirms

Verb = Callable[[Channel, Any], Method | None]
"""Does what the method asks and gives the reply to send, if there is one."""


def select_confirms(channel: Channel, method: commands.Confirm.Select) -> Method | None:
    if channel.transaction is not None:
        raise PreconditionFailed("cannot switch from tx to confirm mode")
    if channel.confirms is None:
        connection = channel.connection
        channel.confirms = Confirms(
            channel.number,
            connection.turn,
            connection.write,
            partial(channel.count, CONFIRM),
            disk_counts=connection.vhost.awaits_disk,
        )
    return None if method.nowait else commands.Confirm.SelectOk()


def finish_flow(channel: Channel, method: commands.Channel.FlowOk) -> None:
    """The client has understood a flow we never send; nothing follows."""


VERBS: Final[dict[type[Method], Verb]] = {
    commands.Channel.Flow: consuming.flow,
    commands.Channel.FlowOk: finish_flow,
    commands.Exchange.Declare: declaring.exchange_declare,
    commands.Exchange.Delete: declaring.exchange_delete,
    commands.Exchange.Bind: declaring.exchange_bind,
    commands.Exchange.Unbind: declaring.exchange_unbind,
    commands.Queue.Declare: declaring.queue_declare,
    commands.Queue.Bind: declaring.queue_bind,
    commands.Queue.Unbind: declaring.queue_unbind,
    commands.Queue.Purge: declaring.queue_purge,
    commands.Queue.Delete: declaring.queue_delete,
    commands.Basic.Qos: consuming.qos,
    commands.Basic.Consume: consuming.consume,
    commands.Basic.Cancel: consuming.cancel,
    commands.Basic.CancelOk: consuming.cancel_understood,
    commands.Basic.Get: consuming.get,
    commands.Basic.Ack: settling.ack,
    commands.Basic.Nack: settling.nack,
    commands.Basic.Reject: settling.reject,
    commands.Basic.Recover: settling.recover,
    commands.Basic.RecoverAsync: settling.recover_async,
    commands.Confirm.Select: select_confirms,
    commands.Tx.Select: transacting.select,
    commands.Tx.Commit: transacting.commit,
    commands.Tx.Rollback: transacting.rollback,
}
"""`basic.publish` stands apart, because content follows it; `channel.open` and `close` are the connection's."""
