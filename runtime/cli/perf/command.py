"""`ebbmq perf`: the scenarios under their names."""

import click

from runtime.cli.perf.churn import VARIANTS, churn_command
from runtime.cli.perf.standing import connection_count, queue_count
from runtime.cli.perf.throughput import throughput


@click.group()
def perf() -> None:
    """Put load on any AMQP 0-9-1 broker and measure what comes of it."""


perf.add_command(throughput)
for name in VARIANTS:
    perf.add_command(churn_command(name))
perf.add_command(connection_count)
perf.add_command(queue_count)
