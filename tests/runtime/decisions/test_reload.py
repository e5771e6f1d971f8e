"""What SIGHUP changes, and what it can only announce."""

from msgspec import structs

from ipc.settings import AmqpSettings, MainSettings, Settings, StoreSettings, VHostStoreSettings
from runtime.decisions.reload import NEEDS_RESTART, reload


def test_what_may_change_is_taken_and_what_may_not_stays() -> None:
    current = Settings()
    wanted = Settings(main=MainSettings(shards=9, drain_seconds=3.0), amqp=AmqpSettings(port=1, heartbeat=7))

    settings, changed, needs_restart = reload(current, wanted)

    assert settings == Settings(main=MainSettings(drain_seconds=3.0), amqp=AmqpSettings(heartbeat=7))
    assert changed == ["main.drain_seconds", "amqp.heartbeat"]
    assert needs_restart == ["main.shards", "amqp.port"]


def test_the_durability_of_vhosts_is_taken_over_for_those_that_will_be_opened_and_that_of_all_is_not() -> None:
    wanted = Settings(store=StoreSettings(durability="os", vhosts={"orders": VHostStoreSettings(durability="os")}))

    settings, changed, needs_restart = reload(Settings(), wanted)

    assert settings.store.durability_of("orders") == "os"
    assert settings.store.durability_of("/") == "fsync"
    assert (changed, needs_restart) == (["store.vhosts"], ["store.durability"])


def test_unchanged_settings_change_nothing() -> None:
    assert reload(Settings(), Settings()) == (Settings(), [], [])


def test_everything_that_needs_a_restart_is_a_setting() -> None:
    names = {
        f"{section.name}.{field.name}"
        for section in structs.fields(Settings)
        for field in structs.fields(getattr(Settings(), section.name))
    }

    assert names >= NEEDS_RESTART
