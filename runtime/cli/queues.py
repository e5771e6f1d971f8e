"""`ebbmq queue`: what an operator does to a queue of a running broker."""

import click

from ipc.messages import control
from runtime.cli.accounts import located
from runtime.cli.asking import require_all, running_broker


@click.group()
def queue() -> None:
    """Pause queues, and let them go on."""


@queue.command()
@click.argument("name")
@click.option("--vhost", default="/", show_default=True, metavar="NAME", help="Its virtual host.")
@located
def pause(name: str, vhost: str, config: str | None, data_dir: str | None) -> None:
    """Have queue NAME hand nothing out; it goes on taking messages."""
    _ask(control.PauseQueue(name, vhost), config, data_dir)


@queue.command()
@click.argument("name")
@click.option("--vhost", default="/", show_default=True, metavar="NAME", help="Its virtual host.")
@located
def resume(name: str, vhost: str, config: str | None, data_dir: str | None) -> None:
    """Have queue NAME hand out again, if it was paused."""
    _ask(control.ResumeQueue(name, vhost), config, data_dir)


def _ask(request: control.PauseQueue | control.ResumeQueue, config: str | None, data_dir: str | None) -> None:
    with running_broker(config, data_dir) as broker:
        answered = broker.ask(request)
    for state in answered.all(control.QueueState):
        if state.found:
            return
    require_all(answered.end.silent)
    raise click.ClickException(f"no queue '{request.queue}' in vhost '{request.vhost}'")
