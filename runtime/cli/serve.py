"""`ebbmq serve`: reads the settings, takes the data directory, and becomes the supervisor."""

import gc
import os
import signal
import sys
from typing import Final

import click
import structlog
import trio

from ipc.allocator import return_large_blocks, trim_allocator
from ipc.data_directory import DataDirectory
from ipc.log import configure_logging
from ipc.speed import Speed, read_speed
from runtime.auth.directory import Directory
from runtime.cli.settings_sources import CONFIG_VARIABLE, Assignment, SettingsSources, from_flag, from_set
from runtime.supervisor.data_lock import DataLock
from runtime.supervisor.supervisor import Supervisor
from runtime.supervisor.template import SUPERVISORS_SIGNALS

# For shards of a supervisor that was killed: they drain as long as they were told to, and a little.
ORPHANS_SECONDS: Final = 5.0

FLAGS: Final = {
    "shards": ("--shards", "main.shards"),
    "data_dir": ("--data-dir", "main.data_dir"),
    "bind": ("--bind", "amqp.bind"),
    "amqp_port": ("--amqp-port", "amqp.port"),
    "log_level": ("--log-level", "main.log_level"),
    "log_format": ("--log-format", "main.log_format"),
}


@click.command()
@click.option("--shards", metavar="N", help="Number of processes that hold virtual hosts.")
@click.option("--config", metavar="FILE", envvar=CONFIG_VARIABLE, help="Settings in TOML; see conf/ebbmq.toml.")
@click.option("--data-dir", metavar="DIRECTORY", help="Where queues, definitions and accounts are kept.")
@click.option("--bind", metavar="ADDRESSES", help="Addresses to listen on, separated by commas.")
@click.option("--amqp-port", metavar="PORT", help="Port for AMQP; 0 takes a free one.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", help="text or json.")
@click.option("--set", "pairs", metavar="SECTION.KEY=VALUE", multiple=True, help="Any other setting; may be repeated.")
def serve(config: str | None, pairs: tuple[str, ...], **flags: str | None) -> None:
    """Run the broker until SIGTERM or SIGINT.

    SIGHUP reads settings and accounts again, SIGUSR1 runs a compaction pass. Flags win over the environment
    (EBBMQ_SECTION_KEY), that over the file, that over the defaults.
    """
    # Not obeyed before somebody listens for them, but not lost either.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1})
    return_large_blocks()
    sources = SettingsSources(config, dict(os.environ), assignments(flags, pairs))
    settings = sources.read()
    configure_logging(settings.main.log_level, settings.main.log_format, path=settings.main.log_file)
    warn_of_speed(read_speed(os.environ))
    paths = DataDirectory(settings.main.data_dir)
    with DataLock.take(paths, patience_seconds=settings.main.drain_seconds + ORPHANS_SECONDS) as lock:
        lock.sign()  # first, so that a command which changes accounts from now on knows whom to tell
        directory = Directory.open(paths, settings.users)
        try:
            supervisor = Supervisor(sources, settings, lock, directory, say)
            # What was imported stays, and later collections need not look at it; what importing left over goes.
            gc.collect()
            gc.freeze()
            trim_allocator()
            signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISORS_SIGNALS)  # the supervisor lets them in when it listens
            trio.run(supervisor.run)
        finally:
            directory.close()


def warn_of_speed(speed: Speed) -> None:
    """Once a start and for all processes, because they come from the same installation and environment."""
    log = structlog.get_logger("supervisor")
    if speed.interpreted:
        log.warning(
            "hot modules run interpreted, at a fraction of the compiled speed",
            modules=" ".join(speed.interpreted),
            reason=speed.reason,
        )
    if speed.outdated:
        log.warning("hot modules were compiled from older sources", modules=" ".join(speed.outdated), do="make build")


def assignments(flags: dict[str, str | None], pairs: tuple[str, ...]) -> tuple[Assignment, ...]:
    """`--set` in the order given, and after it the flags that have a name of their own: the more specific one wins."""
    named = [from_flag(*FLAGS[name], value) for name, value in flags.items() if value is not None]
    return (*map(from_set, pairs), *named)


def say(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        pass  # whoever started us does not listen; the broker serves all the same
