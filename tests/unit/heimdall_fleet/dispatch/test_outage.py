from heimdall_fleet.dispatch.outage import GATE, LOOK_BACK, Outage


def test_a_poison_record_among_good_ones_is_given_up_after_its_tries() -> None:
    outage = Outage()
    for _ in range(20):
        outage.ended(True, 0.0)
    assert [outage.failed("poison", 0.0) for _ in range(3)] == [False, False, True]


def test_a_poison_record_all_alone_is_given_up_too() -> None:
    assert [Outage().failed("poison", 0.0) for _ in range(3)] == [False] * 3
    outage = Outage()
    assert [outage.failed("poison", 0.0) for _ in range(3)] == [False, False, True]


def test_nobody_is_given_up_while_everything_fails() -> None:
    outage = Outage()
    given_up = [outage.failed(f"r{n % 10}", 0.0) for n in range(100)]
    assert not any(given_up)
    assert not outage.accepts(0.0)


def test_the_intake_opens_again_after_a_while_and_stays_open_when_things_go_well() -> None:
    outage = Outage()
    for n in range(30):
        outage.failed(f"r{n}", 0.0)
    assert not outage.accepts(0.0)
    assert outage.accepts(GATE.open_for_ms)
    outage.ended(True, GATE.open_for_ms)
    assert outage.accepts(GATE.open_for_ms + 1)


def test_good_answers_before_an_outage_do_not_hide_it() -> None:
    outage = Outage()
    for n in range(50):
        outage.ended(True, n * 100.0)
    for n in range(LOOK_BACK):
        outage.ended(False, 5_000.0 + n)
    assert not outage.accepts(5_100.0)


def test_half_of_all_failing_closes_nothing() -> None:
    outage = Outage()
    for n in range(200):
        outage.ended(n % 2 == 0, float(n))
    assert outage.accepts(200.0)


def test_failures_of_long_ago_close_nothing() -> None:
    outage = Outage()
    for n in range(100):
        outage.ended(False, n * 10_000.0)
    assert outage.accepts(1_000_000.0)


def test_an_intake_that_opens_into_the_same_outage_closes_at_once() -> None:
    outage = Outage()
    for _ in range(LOOK_BACK):
        outage.ended(False, 0.0)
    later_ms = GATE.open_for_ms + 1
    assert outage.accepts(later_ms)
    outage.ended(False, later_ms)
    assert not outage.accepts(later_ms + 1)


def test_a_record_that_was_handled_after_all_begins_anew() -> None:
    outage = Outage()
    outage.failed("r", 0.0)
    outage.failed("r", 0.0)
    outage.forget("r")
    assert not outage.failed("r", 0.0)
