from typing import Any

import pytest

from heimdall_fleet.dispatch.capacity.pool import KeysOut, Pool, Readiness
from heimdall_fleet.dispatch.routes import Offer, Route
from heimdall_fleet.dispatch.settings import BreakerSettings, KeySettings, KeyStrategy, ProviderSettings
from heimdall_fleet.providers.dialect import Action, AttemptFailure, Target
from heimdall_schemas.failure import FailureCode as C

NONE: frozenset[str] = frozenset()


def pool(*keys: KeySettings, **settings: Any) -> Pool:
    return Pool([ProviderSettings("openai", "openai", "", keys, **settings)])


def route(model: str = "gpt-5") -> Route:
    target = Target("openai", "openai", "", model, f"openai/{model}", {}, {}, None, {})
    return Route(Offer(target, None, None), "hard", {}, 0)


def key(name: str, group: str | None = None, **fields: Any) -> KeySettings:
    return KeySettings(name, f"secret-{name}", quota_group=group, **fields)


def ask(of: Pool, failure: AttemptFailure | None = None, now_ms: float = 0.0, model: str = "gpt-5") -> str:
    """One call from its start to its end; the name of its key."""
    ticket = of.take(route(model), NONE, now_ms)
    assert ticket is not None
    of.learn(ticket, failure, now_ms)
    return ticket.key.name


def readiness(of: Pool, now_ms: float = 0.0, without: frozenset[str] = NONE, model: str = "gpt-5") -> Readiness:
    return of.status(route(model), without, now_ms).readiness


REFUSED = AttemptFailure(C.PROVIDER_AUTH, Action.OTHER_KEY, "invalid", disable_key=True)
LIMITED = AttemptFailure(C.PROVIDER_RATE_LIMITED, Action.OTHER_KEY, "429", retry_after_ms=5_000)


def test_a_key_that_does_not_list_the_model_is_never_picked() -> None:
    of = pool(key("mini", models=("gpt-mini",)), key("all"))
    assert {ask(of) for _ in range(10)} == {"all"}
    assert readiness(of, without=frozenset({"all"})) is Readiness.NEVER


def test_a_limited_key_closes_its_whole_quota_group_and_no_other() -> None:
    of = pool(key("a1", "a"), key("a2", "a"), key("b", "b"))
    first = ask(of, LIMITED)
    left = {ask(of, now_ms=1.0) for _ in range(6)}
    assert left == ({"b"} if first.startswith("a") else {"a1", "a2"})
    assert {ask(of, now_ms=5_001.0) for _ in range(9)} == {"a1", "a2", "b"}


def test_keys_without_a_group_share_the_quota_of_their_provider() -> None:
    of = pool(key("a"), key("b"))
    ask(of, LIMITED)
    status = of.status(route(), NONE, 1.0)
    assert (status.readiness, status.at_ms) == (Readiness.CLOSED, 5_000.0)


def test_without_a_retry_after_the_cool_down_doubles_and_a_success_forgets_it() -> None:
    of = pool(key("a"))
    limited = AttemptFailure(C.PROVIDER_RATE_LIMITED, Action.OTHER_KEY, "429")
    ask(of, limited, 0.0)
    assert of.status(route(), NONE, 0.0).at_ms == 1_000.0
    ask(of, limited, 1_000.0)
    assert of.status(route(), NONE, 1_000.0).at_ms == 3_000.0
    ask(of, None, 3_000.0)
    ask(of, limited, 3_000.0)
    assert of.status(route(), NONE, 3_000.0).at_ms == 4_000.0


def test_a_retry_after_of_nothing_is_no_leave_to_hammer_the_provider() -> None:
    of = pool(key("a"))
    ask(of, AttemptFailure(C.PROVIDER_RATE_LIMITED, Action.OTHER_KEY, "429", retry_after_ms=0))
    assert readiness(of, 999.0) is Readiness.CLOSED
    assert readiness(of, 1_000.0) is Readiness.READY


def test_a_key_that_is_refused_goes_out_with_one_alarm_and_comes_back_with_a_new_secret() -> None:
    of = pool(key("a"))
    tickets = [of.take(route(), NONE, 0.0) for _ in range(2)]
    alarms = [of.learn(ticket, REFUSED, 0.0) for ticket in tickets if ticket]
    assert [alarm is not None for alarm in alarms] == [True, False]
    assert readiness(of) is Readiness.NEVER
    of.replace_keys("openai", [key("a")])
    assert readiness(of) is Readiness.NEVER
    of.replace_keys("openai", [KeySettings("a", "rotated")])
    assert readiness(of) is Readiness.READY


def test_one_call_in_five_minutes_tries_a_refused_key_and_its_answer_brings_it_back() -> None:
    of = pool(key("a"))
    ask(of, REFUSED)
    assert readiness(of, 299_999.0) is Readiness.NEVER
    looking = of.take(route(), NONE, 300_000.0)
    assert looking is not None
    assert of.take(route(), NONE, 300_001.0) is None
    assert of.learn(looking, REFUSED, 300_002.0) is None
    assert readiness(of, 599_999.0) is Readiness.NEVER
    assert of.keys_out(599_999.0) == ({("openai", "a"): "provider_auth"}, ("openai",))
    ask(of, None, 600_000.0)
    assert {readiness(of, 600_001.0) for _ in range(2)} == {Readiness.READY}
    assert of.keys_out(600_001.0) == ({}, ())


def test_the_alarm_of_a_providers_last_key_says_so() -> None:
    of = pool(key("a"), key("b"))
    alarms = []
    for _ in range(2):
        ticket = of.take(route(), NONE, 0.0)
        assert ticket is not None
        alarms.append(of.learn(ticket, REFUSED, 0.0))
    assert [alarm.last for alarm in alarms if alarm] == [False, True]
    assert of.keys_out(0.0).bare == ("openai",)


def test_a_key_added_at_run_time_is_used_and_a_call_under_way_is_still_given_back() -> None:
    of = pool(key("a"))
    ticket = of.take(route(), NONE, 0.0)
    assert ticket is not None
    of.replace_keys("openai", [key("a"), key("b")])
    assert {ask(of) for _ in range(10)} == {"a", "b"}
    of.learn(ticket, None, 0.0)
    assert [each.aimd.in_flight for each in of.provider("openai").keys] == [0, 0]


def test_a_key_of_weight_zero_takes_no_traffic() -> None:
    assert {ask(pool(key("a", weight=0), key("b"))) for _ in range(3)} == {"b"}


def test_the_ceiling_of_a_provider_holds_over_all_its_keys() -> None:
    of = pool(key("a", "a"), key("b", "b"), concurrency=3)
    tickets = [of.take(route(), NONE, 0.0) for _ in range(4)]
    assert tickets[3] is None
    assert readiness(of) is Readiness.BUSY
    assert tickets[0] is not None
    of.put_back(tickets[0], 0.0)
    assert readiness(of) is Readiness.READY


def test_a_line_of_the_length_of_the_buffer_is_full() -> None:
    settings = ProviderSettings("openai", "openai", "", (key("a"),), concurrency=1, buffer=2)
    line = [1]
    of = Pool([settings], waiting=lambda provider: line[0])
    of.take(route(), NONE, 0.0)
    assert readiness(of) is Readiness.BUSY
    line[0] = 2
    assert readiness(of) is Readiness.FULL


def test_a_promised_place_is_not_given_to_a_newcomer() -> None:
    settings = ProviderSettings("openai", "openai", "", (key("a"),), concurrency=1)
    assert Pool([settings], promised=lambda provider: 1).take(route(), NONE, 0.0) is None


def test_failing_calls_open_the_breaker_and_two_probes_close_it() -> None:
    of = pool(key("a"))
    broken = AttemptFailure(C.PROVIDER_ERROR, Action.SAME_KEY, "500", counts_for_breaker=True)
    for _ in range(3):
        ask(of, broken)
    assert of.health(0.0)["openai"]["breaker"] == "open"
    assert of.status(route(), NONE, 0.0) == (Readiness.CLOSED, 30_000.0)
    assert of.health(30_000.0)["openai"]["breaker"] == "half_open"
    for _ in range(2):
        ask(of, None, 30_000.0)
    assert of.health(30_000.0)["openai"]["breaker"] == "closed"


def test_a_failure_that_is_the_callers_fault_does_not_touch_the_breaker() -> None:
    of = pool(key("a"))
    for _ in range(30):
        ask(of, AttemptFailure(C.PROVIDER_REJECTED, Action.FINAL, "400"))
    assert of.health(0.0)["openai"]["breaker"] == "closed"


def test_a_model_that_is_missing_there_is_left_alone_for_a_minute_and_others_are_not() -> None:
    of = pool(key("a"))
    ask(of, AttemptFailure(C.PROVIDER_NOT_FOUND, Action.OTHER_PROVIDER, "404"), model="gone")
    assert of.status(route("gone"), NONE, 0.0) == (Readiness.CLOSED, 60_000.0)
    assert readiness(of) is Readiness.READY


def test_an_overloaded_provider_is_left_alone_until_it_says() -> None:
    of = pool(key("a", "a"), key("b", "b"))
    ask(of, AttemptFailure(C.PROVIDER_OVERLOADED, Action.OTHER_PROVIDER, "503", retry_after_ms=700))
    assert of.status(route(), NONE, 0.0) == (Readiness.CLOSED, 700.0)


def test_a_provider_without_keys_is_called_without_a_credential() -> None:
    ticket = pool().take(route(), NONE, 0.0)
    assert ticket is not None
    assert (ticket.key.name, ticket.key.settings.secret) == ("none", "")


def test_health_and_representations_show_names_and_no_secret() -> None:
    of = pool(key("a"))
    ticket = of.take(route(), NONE, 0.0)
    for shown in (repr(of.health(0.0)), repr(ticket), repr(of.provider("openai").settings)):
        assert "secret-a" not in shown


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="fastest"):
        KeyStrategy("fastest")


def test_a_changed_configuration_keeps_what_is_known_but_by_other_rules_begins_anew() -> None:
    of = pool(key("a"))
    sick = AttemptFailure(C.PROVIDER_ERROR, Action.OTHER_PROVIDER, "500", counts_for_breaker=True)
    for _ in range(3):
        ask(of, sick)
    assert readiness(of) is Readiness.CLOSED
    same = ProviderSettings("openai", "openai", "", (key("a"),), buffer=7)
    of.configure([same])
    of.replace_keys("openai", same.keys)
    assert readiness(of) is Readiness.CLOSED
    assert of.provider("openai").settings.buffer == 7
    patient = ProviderSettings("openai", "openai", "", (key("a"),), circuit=BreakerSettings(failures_in_a_row=9))
    of.configure([patient])
    of.replace_keys("openai", patient.keys)
    assert readiness(of) is Readiness.READY


def test_a_refused_key_of_a_provider_that_is_gone_is_nobodys_concern() -> None:
    of = pool(key("a"))
    ask(of, REFUSED)
    assert of.keys_out(0.0).bare == ("openai",)
    of.configure([ProviderSettings("other", "openai", "", (key("b"),))])
    assert of.keys_out(0.0) == KeysOut({}, ())
    assert set(of.health(0.0)) == {"other"}
