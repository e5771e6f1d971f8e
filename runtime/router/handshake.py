"""One client from its first byte to its shard: drives the negotiation and grants or refuses what it wishes."""

from collections.abc import Callable, Iterable
from typing import Final

import structlog
import trio

from ipc.errors import ConnectionRefusal, Refusal, ReplyCode
from ipc.limits import CLOSE_OK_SECONDS, OWNER_RETRY_SECONDS, REFUSED_LOGIN_SECONDS, VHOST_PATIENCE_SECONDS
from ipc.link import LinkClosed
from ipc.messages.commands import AdoptClient
from ipc.messages.logins import Attempt
from ipc.settings import Settings
from ipc.wire.amqp.negotiation import METHOD_OF_OPEN, Enter, Negotiation, Prove, State, Wish
from runtime.auth.directory import Directory, User
from runtime.auth.login import LoginFailed, Logins, permissions_to_enter
from runtime.auth.login_record import LoginRecord
from runtime.decisions.sniffing import Protocol, sniff
from runtime.owner import Owner
from runtime.roster import Roster, VHostDown
from runtime.router.peer import Peer
from runtime.router.turnstile import Turnstile

PROTOCOL: Final = "amqp091"

_log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("router")


class Handshake(Owner):
    """What every negotiating client needs of the supervisor; one object serves them all."""

    def __init__(
        self,
        roster: Roster,
        directory: Directory,
        record: LoginRecord,
        settings_source: Callable[[], Settings],
        turnstile: Turnstile,
    ) -> None:
        self._roster = roster
        self._turnstile = turnstile
        self._directory = directory
        self._record = record
        self._logins = Logins(directory, record, PROTOCOL)
        self._settings_source = settings_source

    def owned(self) -> Iterable[Owner]:
        return (self._logins,)

    async def conduct(self, peer: Peer, negotiation: Negotiation, wish: Wish | None, unsent: bytes) -> None:
        """From any point on: `unsent` still has to be sent, `wish` to be granted.

        Returns when the client is its shard's, or is to be closed. Raises PeerGone when it left by itself.
        """
        await peer.send(unsent)
        while negotiation.state not in (State.CLOSING, State.CLOSED):
            if output := negotiation.take_output():
                await peer.send(output)
            if wish is None:
                wish = hear(peer, negotiation, await peer.receive())
            elif isinstance(wish, Prove):
                wish = await self._prove(peer, negotiation, wish)
            elif await self._enter(peer, negotiation, wish):
                return
        await _part(peer, negotiation)

    # from memory ------------------------------------------------------------------------------------------------------

    def recall(self, peer: Peer, wish: Prove) -> User | None:
        """Who that is, if it is known without checking the password again."""
        user = self._logins.recall(wish.user, wish.password, peer.address, self._settings_source().users)
        if user is not None:
            self._record.note_now(Attempt(PROTOCOL, user.name, peer.address, "in"))
        return user

    def enter_now(self, peer: Peer, negotiation: Negotiation, wish: Enter) -> bool:
        """Hand the client over, if nothing stands in the way; False when waiting, or a refusal, is called for."""
        link = self._roster.owner_now(wish.vhost)
        if link is None or self._turnstile.limit(negotiation.user) is not None:
            return False
        try:
            permissions = permissions_to_enter(self._directory, negotiation.user, wish.vhost)
            client = negotiation.freeze(peer.name, wish.vhost, permissions)
            return link.send_now(AdoptClient(client), [peer.fileno()])
        except (Refusal, LinkClosed):
            return False

    # with patience ----------------------------------------------------------------------------------------------------

    async def _prove(self, peer: Peer, negotiation: Negotiation, wish: Prove) -> Wish | None:
        try:
            user = await self._logins.login(wish.user, wish.password, peer.address, self._settings_source().users)
        except LoginFailed as failure:
            _log.warning(
                "login refused", client=peer.name, user=wish.user, mechanism=wish.mechanism, reason=str(failure)
            )
            await trio.sleep(REFUSED_LOGIN_SECONDS)
            negotiation.refuse_login()
            return None
        return negotiation.accept(user.name, user.tags)

    async def _enter(self, peer: Peer, negotiation: Negotiation, wish: Enter) -> bool:
        """Whether the client is its shard's now; otherwise it was refused."""
        try:
            permissions_to_enter(self._directory, negotiation.user, wish.vhost)
            await self._hand_over(peer, negotiation, wish.vhost)
        except Refusal as refusal:
            _log.warning(
                "client refused", client=peer.name, user=negotiation.user, vhost=wish.vhost, reason=refusal.text
            )
            negotiation.refuse(refusal, METHOD_OF_OPEN)
            return False
        return True

    async def _hand_over(self, peer: Peer, negotiation: Negotiation, vhost: str) -> None:
        down = ConnectionRefusal(ReplyCode.INTERNAL_ERROR, f"vhost '{vhost}' is down")
        with trio.move_on_after(VHOST_PATIENCE_SECONDS) as patience:
            while True:
                try:
                    link = await self._roster.owner_of(vhost, max(0.0, patience.deadline - trio.current_time()))
                    async with self._turnstile.passing(negotiation.user):
                        # Asked again: they may have changed meanwhile, and the shard only hears of later changes.
                        permissions = permissions_to_enter(self._directory, negotiation.user, vhost)
                        client = negotiation.freeze(peer.name, vhost, permissions)
                        await link.send(AdoptClient(client), [peer.fileno()])
                    return
                except LinkClosed:  # it died under our hands; its successor is worth waiting for
                    await trio.sleep(OWNER_RETRY_SECONDS)
                except VHostDown as fault:
                    raise down from fault
        raise down


def hear(peer: Peer, negotiation: Negotiation, received: bytes) -> Wish | None:
    """Take what a client said; whoever speaks another protocol is noted."""
    if negotiation.state is State.HEADER:
        _note_foreigner(peer, received)
    return negotiation.receive(received)


def _note_foreigner(peer: Peer, received: bytes) -> None:
    protocol = sniff(received)
    if protocol is not None and protocol is not Protocol.AMQP:
        _log.info("client does not speak AMQP", client=peer.name, protocol=protocol.value)


async def _part(peer: Peer, negotiation: Negotiation) -> None:
    """Say the last word and give the client a moment to hear it."""
    with trio.move_on_after(CLOSE_OK_SECONDS):
        if output := negotiation.take_output():
            await peer.send(output)
        while negotiation.state is State.CLOSING:
            negotiation.receive(await peer.receive())
        await peer.linger()
