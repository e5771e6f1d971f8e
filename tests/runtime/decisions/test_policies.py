"""What a policy may say: RabbitMQ's settings with values of the right kind, and nothing that nobody would follow."""

from typing import Any

import pytest

from ipc.limits import TIME_MS_MAX
from ipc.messages.rules import Policy
from runtime.decisions.policies import APPLY_TO, OPERATORS, PolicyRefusal, check_policy


def refusal(policy: Policy, *, is_operator: bool = False) -> str:
    with pytest.raises(PolicyRefusal) as refused:
        check_policy(policy, is_operator=is_operator)
    return str(refused.value)


GOOD: dict[str, list[Any]] = {
    "alternate-exchange": ["lost", ""],
    "consumer-timeout": [0, 60_000],
    "dead-letter-exchange": ["graveyard", ""],
    "dead-letter-routing-key": ["k"],
    "delayed-message": [True, False],
    "delivery-limit": [-1, 0, 20],
    "expires": [1, TIME_MS_MAX],
    "max-length": [0, 2**63 - 1],
    "max-length-bytes": [0, 10],
    "message-ttl": [0, TIME_MS_MAX],
    "overflow": ["drop-head", "reject-publish", "reject-publish-dlx"],
    "queue-mode": ["default", "lazy"],
    "queue-version": [1, 2],
}

BAD: dict[str, list[Any]] = {
    "alternate-exchange": [1, "x" * 256],
    "consumer-timeout": [-1, "1", True],
    "dead-letter-exchange": [None, 5],
    "delayed-message": [1, "true"],
    "delivery-limit": [-2, 1.5],
    "expires": [0, TIME_MS_MAX + 1, "1000"],
    "max-length": [-1, "5", 1.0, False],
    "max-length-bytes": [-1, 2**63],
    "message-ttl": [-1, TIME_MS_MAX + 1],
    "overflow": ["drop-tail", 1, True],
    "queue-mode": ["eager"],
    "queue-version": [3, True],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in GOOD.items() for value in values])
def test_a_setting_of_the_right_kind_is_taken(key: str, value: Any) -> None:
    check_policy(Policy("p", ".*", {key: value}), is_operator=False)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_a_setting_of_the_wrong_kind_is_refused_and_named(key: str, value: Any) -> None:
    said = refusal(Policy("p", ".*", {key: value}))

    assert said.startswith(f"{key}: {value!r} is not a valid ")


def test_unknown_settings_are_refused_and_the_known_ones_told() -> None:
    said = refusal(Policy("p", ".*", {"max-lenght": 5}))

    assert said.startswith("max-lenght: not recognised policy settings; there are alternate-exchange, ")


@pytest.mark.parametrize("key", sorted(OPERATORS))
def test_an_operator_policy_may_limit(key: str) -> None:
    check_policy(Policy("p", ".*", {key: 5}), is_operator=True)


@pytest.mark.parametrize("key", ["overflow", "dead-letter-exchange", "alternate-exchange"])
def test_an_operator_policy_may_do_nothing_but_limit(key: str) -> None:
    assert refusal(Policy("p", ".*", {key: "drop-head"}), is_operator=True).startswith(
        f"{key}: not recognised operator policy settings"
    )


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (Policy("", ".*", {"expires": 1}), "a policy's name has 1 to 255 bytes"),
        (Policy("ü" * 128, ".*", {"expires": 1}), "a policy's name has 1 to 255 bytes"),
        (Policy("p", "(", {"expires": 1}), "'(' is not a regular expression"),
        (Policy("p", ".*", {}), "no policy provided"),
        (Policy("p", ".*", {"expires": 1}, "everything"), "apply-to 'everything' unrecognised; should be one of"),
        (Policy("p", ".*", {"expires": 1}, "all", 2**31), "priority 2147483648 is not a number from"),
    ],
)
def test_what_is_not_well_formed_is_refused_in_a_sentence(policy: Policy, said: str) -> None:
    assert refusal(policy).startswith(said)


@pytest.mark.parametrize("apply_to", APPLY_TO)
def test_it_applies_to_what_rabbitmq_knows(apply_to: str) -> None:
    check_policy(Policy("p", "^q", {"expires": 1}, apply_to, -5), is_operator=False)
