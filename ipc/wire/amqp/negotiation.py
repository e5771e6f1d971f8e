"""The conversation that opens a connection, from protocol header to `connection.open`, as a pure state machine.

Bytes come in, bytes and wishes go out. A wish is what only the caller can grant: that credentials are right, that a
user may enter a vhost. While one is open, whatever the client sends is kept unread. After `connection.open` the machine
stops: `freeze()` says in one value all that the shard needs to go on; `connection.open-ok` is the shard's to send.

```
        header        start-ok         accept()       tune-ok        open          freeze()
HEADER ───────► START ────────► PROVING ───────► TUNE ───────► OPEN ───────► ENTERING ───────► the shard
   └── foreign: our header, CLOSED      any refusal: connection.close, CLOSING ── close-ok ──► CLOSED
```

`RULES` is the whole protocol: what it does not list for a state is refused with `UNLISTED`.
"""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct
from pamqp import commands

from ipc.errors import ConnectionRefusal, FrameError, NotAllowed, Refusal, ReplyCode, SyntaxRefused
from ipc.limits import FRAME_BYTES_MIN, NEGOTIATION_FRAME_BYTES_MAX, NEGOTIATION_UNREAD_BYTES_MAX
from ipc.messages.commands import NegotiatedClient, Permissions
from ipc.wire.amqp import frames, methods
from ipc.wire.amqp.fields import FieldReader
from ipc.wire.amqp.tables import decode_fields, decode_table

HEADERS_ACCEPTED: Final = (frames.PROTOCOL_HEADER, b"AMQP\x01\x01\x00\x09")  # 0-9-1, and how 0-9 announced the same
MECHANISMS: Final = "PLAIN AMQPLAIN"
LOCALE: Final = "en_US"
CLOSE_OK_FRAME: Final = methods.frame(0, commands.Connection.CloseOk())

METHOD_OF_OPEN: Final = commands.Connection.Open.index

_METHOD_INDEX_BYTES: Final = 4


class State(Enum):
    """What the machine waits for."""

    HEADER = auto()
    START = auto()  # connection.start-ok
    PROVING = auto()  # accept() or refuse()
    TUNE = auto()  # connection.tune-ok
    OPEN = auto()  # connection.open
    ENTERING = auto()  # freeze() or refuse()
    CLOSING = auto()  # connection.close-ok; everything else is passed over
    CLOSED = auto()


class Input(Enum):
    """What a client can say, as far as the rules tell it apart."""

    START_OK = auto()
    TUNE_OK = auto()
    OPEN = auto()
    CLOSE = auto()
    OTHER_METHOD = auto()  # exists, but has no place in a negotiation
    UNKNOWN_METHOD = auto()
    HEARTBEAT = auto()
    CONTENT = auto()  # a content header or body
    STRAY = auto()  # any frame on another channel than 0


class Offer(Struct, frozen=True):
    """What the broker proposes to every client; frames are encoded once."""

    frame_max: int
    channel_max: int
    heartbeat_seconds: int
    start_frame: bytes
    tune_frame: bytes


class Prove(Struct, frozen=True):
    """A wish: find out whether this user may log in. Answered by `accept()` or `refuse_login()`."""

    mechanism: str
    user: str
    password: str


class Enter(Struct, frozen=True):
    """A wish: find the shard of this vhost. Answered by `freeze()` or `refuse()`."""

    vhost: str


Wish = Prove | Enter


def make_offer(
    server_properties: Mapping[str, Any], *, frame_max: int, channel_max: int, heartbeat_seconds: int
) -> Offer:
    """The offer for these settings; `frame_max` in bytes with frame overhead, 0 for heartbeats means none wanted."""
    start = commands.Connection.Start(0, 9, dict(server_properties), MECHANISMS, LOCALE)
    tune = commands.Connection.Tune(channel_max, frame_max, heartbeat_seconds)
    return Offer(frame_max, channel_max, heartbeat_seconds, methods.frame(0, start), methods.frame(0, tune))


class Negotiation:
    """One client's negotiation; `state` tells what it waits for, `take_output()` what is to be sent."""

    def __init__(self, offer: Offer) -> None:
        self.state = State.HEADER
        self._offer = offer
        self._incoming = bytearray()
        self._output = bytearray()
        self._mechanism = ""
        self._client_properties = b""
        self._capabilities: frozenset[str] = frozenset()
        self._user = ""
        self._tags: tuple[str, ...] = ()
        self._frame_max = self._channel_max = self._heartbeat_seconds = 0

    # bytes ------------------------------------------------------------------------------------------------------------

    def receive(self, received: bytes) -> Wish | None:
        """Take what the client sent; the wish that came of it, if any.

        Never raises for what a client sends: a refusal becomes `connection.close` in the output and state CLOSING.
        """
        if self.state is State.CLOSED:
            return None
        self._incoming += received
        return self._advance()

    def take_output(self) -> bytes:
        """What is to be sent now, each byte once."""
        output = bytes(self._output)
        self._output.clear()
        return output

    @property
    def is_hungry(self) -> bool:
        """Whether more bytes are of use now; false while a wish is open, so that what is unread stays bounded."""
        return self.state not in (State.PROVING, State.ENTERING, State.CLOSED)

    @property
    def user(self) -> str:
        """Who logged in; empty until `accept()`."""
        return self._user

    @property
    def hears_login_failures(self) -> bool:
        """Whether the client wants `connection.close` for wrong credentials rather than a closed socket."""
        return "authentication_failure_close" in self._capabilities

    # answers to wishes ------------------------------------------------------------------------------------------------

    def accept(self, user: str, tags: tuple[str, ...]) -> Wish | None:
        """The credentials are right; what was kept meanwhile is read on."""
        assert self.state is State.PROVING
        self._user = user
        self._tags = tags
        self._output += self._offer.tune_frame
        self.state = State.TUNE
        return self._advance()

    def refuse_login(self) -> None:
        """The credentials are wrong: 403 where the client can hear it, otherwise silence and state CLOSED."""
        assert self.state is State.PROVING
        if not self.hears_login_failures:
            self.state = State.CLOSED
            return
        reason = f"Login was refused using authentication mechanism {self._mechanism}"
        self.refuse(ConnectionRefusal(ReplyCode.ACCESS_REFUSED, reason))

    def refuse(self, refusal: Refusal, method_index: int = 0) -> None:
        """Close with the refusal's code; `method_index` names the method that caused it, class in the high half."""
        close = commands.Connection.Close(
            int(refusal.code), refusal.reply_text, method_index >> 16, method_index & 0xFFFF
        )
        self._output += methods.frame(0, close)
        self._incoming.clear()
        self.state = State.CLOSING

    def freeze(self, name: str, vhost: str, permissions: Permissions) -> NegotiatedClient:
        """Everything the shard needs to go on, the bytes after `connection.open` included."""
        assert self.state is State.ENTERING
        return NegotiatedClient(
            name=name,
            user=self._user,
            tags=self._tags,
            vhost=vhost,
            permissions=permissions,
            frame_max=self._frame_max,
            channel_max=self._channel_max,
            heartbeat_seconds=self._heartbeat_seconds,
            mechanism=self._mechanism,
            client_properties=self._client_properties,
            capabilities=self._capabilities,
            unread=bytes(self._incoming),
        )

    # the machine ------------------------------------------------------------------------------------------------------

    def _advance(self) -> Wish | None:
        wish = None
        while wish is None and (step := STEPS[self.state]) is not None:
            before = self.state, len(self._incoming)
            wish = step(self)
            if before == (self.state, len(self._incoming)):
                break
        assert len(self._incoming) <= NEGOTIATION_UNREAD_BYTES_MAX
        return wish

    def _read_header(self) -> None:
        start = bytes(self._incoming[: len(frames.PROTOCOL_HEADER)])
        if start in HEADERS_ACCEPTED:
            del self._incoming[: len(start)]
            self._output += self._offer.start_frame
            self.state = State.START
        elif not any(header.startswith(start) for header in HEADERS_ACCEPTED):
            self._incoming.clear()
            self._output += frames.PROTOCOL_HEADER
            self.state = State.CLOSED

    def _read_frame(self) -> Wish | None:
        try:
            frame = frames.scan(self._incoming, 0, NEGOTIATION_FRAME_BYTES_MAX)
        except FrameError as refusal:
            self.refuse(refusal)
            return None
        if frame is None:
            return None
        payload = bytes(self._incoming[frame.start : frame.end])
        del self._incoming[: frame.end + 1]
        try:
            index = method_index(frame, payload)
        except SyntaxRefused as refusal:
            self.refuse(refusal)
            return None
        said = classify(frame, index)
        rule = RULES[self.state].get(said) or UNLISTED[said]
        try:
            return rule(self, payload)
        except ConnectionRefusal as refusal:
            self.refuse(refusal, index)
            return None

    def _find_close_ok(self) -> None:
        # After an oversized frame nobody knows where the next one begins, so the answer is looked for, not parsed.
        if CLOSE_OK_FRAME in self._incoming:
            self._incoming.clear()
            self.state = State.CLOSED
        else:
            del self._incoming[: -len(CLOSE_OK_FRAME) + 1]

    # rules ------------------------------------------------------------------------------------------------------------

    def _read_start_ok(self, payload: bytes) -> Wish:
        fields = FieldReader(payload, _METHOD_INDEX_BYTES)
        properties = fields.raw_table()
        self._mechanism = fields.short_string()
        response = fields.long_string()
        fields.short_string()  # the locale: there is one
        credentials = _CREDENTIALS.get(self._mechanism)
        if credentials is None:
            raise ConnectionRefusal(ReplyCode.COMMAND_INVALID, f"unknown authentication mechanism '{self._mechanism}'")
        self._client_properties = properties
        self._capabilities = _capabilities(properties)
        user, password = credentials(response)
        self.state = State.PROVING
        return Prove(self._mechanism, user, password)

    def _read_tune_ok(self, payload: bytes) -> None:
        fields = FieldReader(payload, _METHOD_INDEX_BYTES)
        channel_max, frame_max, heartbeat_seconds = fields.short(), fields.long(), fields.short()
        _check_tuned("channel_max", channel_max, lowest=1, offered=self._offer.channel_max)
        _check_tuned("frame_max", frame_max, lowest=FRAME_BYTES_MIN, offered=self._offer.frame_max)
        self._channel_max = channel_max
        self._frame_max = frame_max
        self._heartbeat_seconds = heartbeat_seconds
        self.state = State.OPEN

    def _read_open(self, payload: bytes) -> Wish:
        vhost = FieldReader(payload, _METHOD_INDEX_BYTES).short_string()
        self.state = State.ENTERING
        return Enter(vhost or "/")

    def _read_close(self, _payload: bytes) -> None:
        self._output += CLOSE_OK_FRAME
        self.state = State.CLOSED

    def _pass_over(self, _payload: bytes) -> None:
        pass

    def _refuse_misplaced_method(self, payload: bytes) -> None:
        name = methods.name(int.from_bytes(payload[:_METHOD_INDEX_BYTES], "big"))
        raise ConnectionRefusal(ReplyCode.COMMAND_INVALID, f"{name} while waiting for {_AWAITED[self.state]}")

    def _refuse_unknown_method(self, payload: bytes) -> None:
        methods.decode(payload)  # raises with the numbers

    def _refuse_frame(self, _payload: bytes) -> None:
        raise ConnectionRefusal(
            ReplyCode.UNEXPECTED_FRAME, f"only methods on channel 0 may precede {_AWAITED[self.state]}"
        )


Rule = Callable[[Negotiation, bytes], Wish | None]

# How bytes are read in a state; None: they are kept, or nobody reads them any more.
STEPS: Final[dict[State, Callable[[Negotiation], Wish | None] | None]] = {
    State.HEADER: Negotiation._read_header,
    State.START: Negotiation._read_frame,
    State.PROVING: None,
    State.TUNE: Negotiation._read_frame,
    State.OPEN: Negotiation._read_frame,
    State.ENTERING: None,
    State.CLOSING: Negotiation._find_close_ok,
    State.CLOSED: None,
}

RULES: Final[dict[State, dict[Input, Rule]]] = {
    State.START: {Input.START_OK: Negotiation._read_start_ok},
    State.TUNE: {Input.TUNE_OK: Negotiation._read_tune_ok},
    State.OPEN: {Input.OPEN: Negotiation._read_open},
}

UNLISTED: Final[dict[Input, Rule]] = {
    Input.START_OK: Negotiation._refuse_misplaced_method,
    Input.TUNE_OK: Negotiation._refuse_misplaced_method,
    Input.OPEN: Negotiation._refuse_misplaced_method,
    Input.CLOSE: Negotiation._read_close,
    Input.OTHER_METHOD: Negotiation._refuse_misplaced_method,
    Input.UNKNOWN_METHOD: Negotiation._refuse_unknown_method,
    Input.HEARTBEAT: Negotiation._pass_over,  # a client may beat as soon as it knows that it should
    Input.CONTENT: Negotiation._refuse_frame,
    Input.STRAY: Negotiation._refuse_frame,
}

_AWAITED: Final = {
    State.START: "connection.start-ok",
    State.TUNE: "connection.tune-ok",
    State.OPEN: "connection.open",
}

_METHOD_INPUTS: Final = {
    commands.Connection.StartOk.index: Input.START_OK,
    commands.Connection.TuneOk.index: Input.TUNE_OK,
    commands.Connection.Open.index: Input.OPEN,
    commands.Connection.Close.index: Input.CLOSE,
}

_FRAME_INPUTS: Final = {
    frames.HEARTBEAT: Input.HEARTBEAT,
    frames.HEADER: Input.CONTENT,
    frames.BODY: Input.CONTENT,
}


def method_index(frame: frames.Frame, payload: bytes) -> int:
    """Class and method number in one, 0 for frames that carry no method; SyntaxRefused for a method without them."""
    if frame.kind != frames.METHOD:
        return 0
    if len(payload) < _METHOD_INDEX_BYTES:
        raise SyntaxRefused("method frame of fewer than four bytes")
    return int.from_bytes(payload[:_METHOD_INDEX_BYTES], "big")


def classify(frame: frames.Frame, index: int) -> Input:
    """What the rules call this frame."""
    if frame.channel != 0:
        return Input.STRAY
    if frame.kind != frames.METHOD:
        return _FRAME_INPUTS[frame.kind]
    if index not in commands.INDEX_MAPPING:
        return Input.UNKNOWN_METHOD
    return _METHOD_INPUTS.get(index, Input.OTHER_METHOD)


def _check_tuned(name: str, value: int, *, lowest: int, offered: int) -> None:
    """0 means "no limit", which nobody may ask of a server that has one; the texts are RabbitMQ's."""
    if 0 < value < lowest:
        raise NotAllowed(f"negotiated {name} = {value} is lower than the minimum allowed value ({lowest})")
    if value == 0 or value > offered:
        raise NotAllowed(f"negotiated {name} = {value} is higher than the maximum allowed value ({offered})")


@lru_cache(maxsize=64)  # a fleet of clients says the same; at most 16 KiB each
def _capabilities(properties: bytes) -> frozenset[str]:
    claimed = decode_table(properties, 0, len(properties)).get("capabilities")
    if not isinstance(claimed, dict):
        return frozenset()
    return frozenset(name for name, value in claimed.items() if value is True)


def _plain(response: bytes) -> tuple[str, str]:
    """RFC 4616: `[authorization identity] NUL user NUL password`; the identity is not ours to honour."""
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise SyntaxRefused("PLAIN response is not NUL user NUL password")
    try:
        return parts[1].decode(), parts[2].decode()
    except UnicodeDecodeError as fault:
        raise SyntaxRefused("PLAIN response is not UTF-8") from fault


def _amqplain(response: bytes) -> tuple[str, str]:
    """A field table without its length prefix, holding LOGIN and PASSWORD."""
    fields = decode_fields(response, 0, len(response))
    user, password = fields.get("LOGIN"), fields.get("PASSWORD")
    if not isinstance(user, str) or not isinstance(password, str):
        raise SyntaxRefused("AMQPLAIN response lacks LOGIN or PASSWORD")
    return user, password


_CREDENTIALS: Final[dict[str, Callable[[bytes], tuple[str, str]]]] = {"PLAIN": _plain, "AMQPLAIN": _amqplain}
