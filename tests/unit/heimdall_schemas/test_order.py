from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.order import Address, Order, Plan, Step, plan_fields, plan_header, read_order

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
unix_ms = st.integers(0, 2**48)

steps = st.builds(
    Step,
    model=texts,
    bucket=st.sampled_from(["cheap", "mid", "hard"]),
    settings=st.dictionaries(texts, st.integers(0, 9) | texts, max_size=2),
)
plans = st.builds(
    Plan,
    steps=st.lists(steps, max_size=3).map(tuple),
    deadline_ms=unix_ms,
    received_ms=unix_ms,
    p_chosen=st.floats(0, 1),
    lane=st.sampled_from(["interactive", "standard", "batch"]),
    pinned=st.booleans(),
    max_cost_usd_micros=st.none() | st.integers(0, 10**10),
    token_count=st.integers(0, 10**6),
    tenant=st.none() | texts,
    session=st.none() | texts,
    attempts_before=st.integers(0, 5),
)
addresses = st.builds(
    Address, topic=texts, partition=st.none() | st.integers(0, 999_999), correlation_id=st.binary(max_size=20)
)
orders = st.builds(
    Order,
    request_id=texts,
    bucket=st.sampled_from(["cheap", "mid", "hard"]),
    decision=st.just({"selected_model": "a/b", "alpha_scores": {"a/b": 0.25}}),
    plan=plans,
    address=addresses,
    body=st.binary(max_size=40),
    trace=st.sampled_from([(), ((h.TRACEPARENT, b"00-a-b-01"),), ((h.TRACEPARENT, b"00"), (h.TRACESTATE, b"x=1"))]),
    shadow=st.none(),
)


def written(order: Order) -> list[tuple[str, bytes | None]]:
    partition = order.address.partition
    return [
        (h.REQUEST_ID, order.request_id.encode()),
        (h.BUCKET, order.bucket.encode()),
        (h.DECISION, orjson.dumps(order.decision)),
        (h.PLAN, plan_header(order.plan)),
        (h.CORRELATION_ID, order.address.correlation_id),
        (h.REPLY_TO, order.address.topic.encode()),
        *([] if partition is None else [(h.REPLY_PARTITION, str(partition).encode())]),
        *order.trace,
    ]


SMALL = Order("r", "cheap", {}, Plan((Step("a/b", "cheap"),), 2, 1, 1.0), Address("t", 3, b"\xff\x00"), b"{}")


@given(orders)
def test_an_order_is_read_as_it_was_written(order: Order) -> None:
    assert read_order(order.body, h.last(written(order))) == order


def test_a_newer_triage_may_write_fields_that_this_dispatch_does_not_know() -> None:
    plan: dict[str, Any] = plan_fields(SMALL.plan)
    plan["mood"] = "sunny"
    plan["steps"] = [{**step, "region": "eu"} for step in plan["steps"]]
    headers = [*written(SMALL), (h.PLAN, orjson.dumps(plan)), ("heimdall-mood", b"sunny")]
    assert read_order(b"{}", h.last(headers)) == SMALL


def test_what_has_its_default_is_left_out_of_the_plan() -> None:
    assert set(orjson.loads(plan_header(SMALL.plan))) == {"steps", "deadline_ms", "received_ms", "p_chosen"}


@pytest.mark.parametrize("missing", [h.REQUEST_ID, h.BUCKET, h.DECISION, h.PLAN, h.CORRELATION_ID, h.REPLY_TO])
def test_a_record_without_a_header_of_triage_is_no_order(missing: str) -> None:
    headers = [(name, value) for name, value in written(SMALL) if name != missing]
    with pytest.raises(Failure, match="no order") as caught:
        read_order(b"{}", h.last(headers))
    assert caught.value.code is FailureCode.HEIMDALL_INTERNAL


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (h.PLAN, b"{"),
        (h.PLAN, b"[]"),
        (h.PLAN, b"7"),
        (h.PLAN, b'"x"'),
        (h.PLAN, b"{}"),
        (h.PLAN, b'{"steps": 3}'),
        (h.PLAN, b'{"steps": ["a/b"]}'),
        (h.PLAN, b'{"steps": [{"model": "a/b"}]}'),
        (h.PLAN, b'{"steps": []}'),
        (h.DECISION, b"\xff"),
        (h.REQUEST_ID, b"\xff"),
    ],
)
def test_a_header_that_triage_would_not_write_is_refused(name: str, value: bytes) -> None:
    with pytest.raises(Failure, match="no order"):
        read_order(b"{}", h.last([*written(SMALL), (name, value)]))


def test_a_setting_that_looks_like_the_end_of_the_steps_is_read_as_a_setting() -> None:
    tricky = Step("a/b", "mid", {"x": [1], "deadline_ms": 3, "y": '],"deadline_ms":7'})
    plan = Plan((tricky, Step("c/d", "hard")), deadline_ms=5, received_ms=1, p_chosen=1.0, tenant='"],"deadline_ms":9')
    order = Order("id", "mid", {}, plan, Address("t", None, b"c"), b"{}")
    assert read_order(order.body, h.last(written(order))).plan == plan


def test_orders_with_the_same_chain_share_its_steps() -> None:
    plans = [Plan((Step("a/b", "mid"),), deadline_ms=at, received_ms=1, p_chosen=1.0) for at in (5, 6)]
    one, other = (Order("id", "mid", {}, plan, Address("t", None, b"c"), b"{}") for plan in plans)
    assert read_order(b"{}", h.last(written(one))).plan.steps is read_order(b"{}", h.last(written(other))).plan.steps
