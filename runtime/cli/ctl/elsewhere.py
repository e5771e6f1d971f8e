"""Commands of other brokers that have no meaning here: why, and what to use instead.

They are known all the same: a script ends with a sentence about what it wanted, and with rabbitmqctl's code for what is
unavailable (69).
"""

from typing import Final, NamedTuple

import click

from ipc.errors import ControlFailed, ExitCode


class Elsewhere(NamedTuple):
    """`names` are commands of rabbitmqctl, rabbitmq-diagnostics, -queues, -streams and -upgrade, or of lavinmqctl."""

    names: str
    reason: str
    instead: str

    @property
    def sentence(self) -> str:
        return f"{self.reason}; {self.instead}."


_SHARDS: Final = "give it more `main.shards`, or a second broker the definitions of this one (export_definitions)"

ROWS: Final = (
    # clusters
    Elsewhere("join_cluster update_cluster_nodes discover_peers", "a broker is one node and joins no other", _SHARDS),
    Elsewhere(
        "forget_cluster_node rename_cluster_node change_cluster_node_type force_boot",
        "a broker is one node, which knows no others",
        "there is nothing to change: it starts by itself, under the name of its machine",
    ),
    Elsewhere(
        "revive",
        "a drained broker has ended, and there is no maintenance mode",
        "start it again (`ebbmq serve`, or `systemctl start ebbmq`)",
    ),
    Elsewhere("post_upgrade", "nothing is left to do after an update", "data of older versions is read as it is"),
    # copies
    Elsewhere(
        "sync_queue cancel_sync_queue await_online_synchronized_mirror",
        "queues have no mirrors, so there is nothing to synchronise",
        "confirmed messages are on disk, and `ebbmq backup` copies them",
    ),
    Elsewhere(
        "grow shrink rebalance add_member delete_member quorum_status reclaim_quorum_memory "
        "await_online_quorum_plus_one peek",
        "queues have no replicas and no quorum",
        "see list_queues, `move_vhost` for another shard, `compact` for memory, and the API's `get` for messages",
    ),
    Elsewhere(
        "stream_status add_replica delete_replica set_stream_retention_policy restart_stream list_stream_connections "
        "list_stream_consumers list_stream_publishers list_stream_consumer_groups list_stream_tracking",
        "there are no streams",
        "use queues with max-length and message-ttl (set_policy), and list_consumers",
    ),
    # Erlang
    Elsewhere(
        "eval eval_file exec remote_shell observer",
        "the broker is no Erlang and evaluates nothing",
        "ask its HTTP API, whose page is /docs, or this command with --formatter json",
    ),
    Elsewhere(
        "erlang_version erlang_cookie_hash erlang_cookie_sources",
        "the broker is no Erlang and shares no cookie",
        "see server_version, and --uri for how to log in from elsewhere",
    ),
    Elsewhere(
        "runtime_thread_stats maybe_stuck",
        "the broker has no Erlang processes",
        "see shards, and the log, where a shard that is silent or a slice that took long is told",
    ),
    Elsewhere("hipe_compile", "there is no HiPE", "hot modules are compiled when the broker is built"),
    Elsewhere("schema_info", "there is no Mnesia", "see report, and `ebbmq status` for what shards hold"),
    # settings
    Elsewhere(
        "encode decode list_ciphers list_hashes",
        "settings hold nothing encrypted",
        "passwords are kept as hashes (hash_password), and the settings file may be readable for the broker alone",
    ),
    Elsewhere(
        "trace_on trace_off",
        "there is no firehose that copies every message",
        "bind a queue of your own beside the one to be looked at, or use the API's `get`",
    ),
    Elsewhere(
        "reset force_reset",
        "a broker begins anew in an empty data directory only",
        "end it (drain), move its data directory away, and start it",
    ),
    Elsewhere(
        "definitions",
        "a data directory tells its definitions to a broker only",
        "start one on it and use export_definitions, or copy it by `ebbmq backup`",
    ),
    # who logs in
    Elsewhere(
        "enable_auth_attempt_source_tracking disable_auth_attempt_source_tracking",
        "whether sources of attempts to log in are told apart is a setting",
        "set `users.track_auth_attempt_source`, and see list_node_auth_attempt_stats --by-source",
    ),
    Elsewhere(
        "certificates cipher_suites tls_versions",
        "listeners speak no TLS",
        "put a proxy before them that does",
    ),
    # the machine
    Elsewhere(
        "os_env command_line_arguments",
        "what a process was started with is its machine's to say",
        "see environment for the settings in force, and /proc/PID for the rest",
    ),
    Elsewhere(
        "list_network_interfaces resolve_hostname resolver_info",
        "names and interfaces are the machine's, not the broker's",
        "use `ip address` and `getent hosts`, and listeners for where it listens",
    ),
    Elsewhere(
        "consume_event_stream",
        "there is no stream of events",
        "see the log, or /metrics for what is to be watched",
    ),
    # links
    Elsewhere(
        "add_shovel delete_shovel restart_shovel shovel_status",
        "the broker runs no shovels",
        "run them on another broker that takes from this one; set_parameter and clear_parameter keep their definitions",
    ),
    Elsewhere(
        "add_federation delete_federation federation_status restart_federation_link",
        "the broker runs no federation links",
        "federate from the other side; set_parameter and clear_parameter keep their definitions",
    ),
    Elsewhere(
        "list_mqtt_connections decommission_mqtt_node list_stomp_connections list_amqp10_connections "
        "list_web_mqtt_connections list_web_stomp_connections",
        "connections are not listed by protocol",
        "use list_connections name protocol",
    ),
)
ELSEWHERE: Final = {name: row for row in ROWS for name in row.names.split()}


def refusal(name: str) -> click.Command:
    """A command that takes whatever it is given and says what to use instead. Raises ControlFailed (UNAVAILABLE)."""
    sentence = ELSEWHERE[name].sentence

    def refuse() -> None:
        raise ControlFailed(ExitCode.UNAVAILABLE, f"{name}: {sentence}")

    return click.Command(
        name,
        callback=refuse,
        help=f"Not here: {sentence}",
        hidden=True,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
