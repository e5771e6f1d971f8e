"""`ebbmq status`: whether a broker runs, and how its shards are."""

import click

from ipc.errors import ControlFailed, ExitCode
from ipc.messages import control
from ipc.table import duration, shown, table
from runtime.cli.accounts import located
from runtime.cli.asking import ask
from runtime.control.client import Answered


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print what the broker said, as JSON.")
@click.option("--ready", "must_be_ready", is_flag=True, help="End with code 21 unless it serves clients.")
@located
def status(as_json: bool, must_be_ready: bool, config: str | None, data_dir: str | None) -> None:
    """Say how the broker on this data directory is."""

    def require(answered: Answered) -> None:
        for broker in answered.all(control.Broker):
            if must_be_ready and broker.state != "ready":
                raise ControlFailed(ExitCode.NOT_READY, f"the broker is not ready but {broker.state}")

    ask(control.Status(), show, as_json=as_json, config=config, data_dir=data_dir, require=require)


def show(answered: Answered) -> None:
    for broker in answered.all(control.Broker):
        pressure = f"{broker.pressure_level or 'none'}, watched by {broker.pressure_source or 'nobody yet'}"
        facts = (
            ("state", broker.state),
            ("version", broker.version),
            ("supervisor", f"pid {broker.pid}, up {duration(broker.seconds)}"),
            ("data", shown(broker.data_directory)),
            ("amqp", " ".join(broker.addresses)),
            ("memory pressure", pressure),
        )
        width = max(len(name) for name, _fact in facts)
        for name, fact in facts:
            click.echo(f"{name.ljust(width)}  {fact}")
    rows = [
        (
            f"shard {shard.shard}",
            str(shard.pid or "?"),
            str(shard.vhosts),
            str(shard.queues),
            str(shard.connections),
            duration(shard.seconds),
        )
        for shard in answered.all(control.Shard)
    ]
    click.echo("\n" + table("lrrrrr", ("process", "pid", "vhosts", "queues", "connections", "up"), rows))
