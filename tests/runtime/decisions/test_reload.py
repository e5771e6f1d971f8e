"""What SIGHUP changes, and what it can only announce."""

from msgspec import structs

from ipc.settings import AmqpSettings, MainSettings, Settings
from runtime.decisions.reload import NEEDS_RESTART, reload


def test_what_may_change_is_taken_and_what_may_not_stays() -> None:
    current = Settings()
    wanted = Settings(main=MainSettings(shards=9, drain_seconds=3.0), amqp=AmqpSettings(port=1, heartbeat=7))

    settings, changed, needs_restart = reload(current, wanted)

    assert settings == Settings(main=MainSettings(drain_seconds=3.0), amqp=AmqpSettings(heartbeat=7))
    assert changed == ["main.drain_seconds", "amqp.heartbeat"]
    assert needs_restart == ["main.shards", "amqp.port"]


def test_unchanged_settings_change_nothing() -> None:
    assert reload(Settings(), Settings()) == (Settings(), [], [])


def test_everything_that_needs_a_restart_is_a_setting() -> None:
    names = {
        f"{section.name}.{field.name}"
        for section in structs.fields(Settings)
        for field in structs.fields(getattr(Settings(), section.name))
    }

    assert names >= NEEDS_RESTART
