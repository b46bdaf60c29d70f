import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heimdall_models.training.plots import Axis, Curve, Dot, axis_of, plot

ACROSS, UP = Axis("share", 0.0, 1.0), Axis("score", 0.2, 0.8)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
@example([5e-324])
@example([0.5])
def test_an_axis_reaches_around_all_of_its_values(values: list[float]) -> None:
    axis = axis_of("any", values)
    span = axis.high - axis.low
    assert span > 0
    assert axis.low <= min(values) + 1e-6 * span
    assert axis.high >= max(values) - 1e-6 * span


def test_the_ends_of_an_axis_are_round_numbers() -> None:
    axis = axis_of("score", [0.357, 0.592])
    assert (axis.low, axis.high) == pytest.approx((0.35, 0.6))


def test_a_plot_is_well_formed_and_holds_every_curve_and_dot() -> None:
    curves = [Curve("a < b", "line", [(0, 0.2), (1, 0.8)]), Curve("c", "line", [(0, 0.3), (1, 0.7)])]
    drawn = ET.fromstring(plot((ACROSS, UP), curves, [Dot((0.5, 0.5), "a & b", "here")], 'said "aloud"'))
    assert drawn.attrib["aria-label"] == 'said "aloud"'
    assert [line.findtext("title") for line in drawn.iter("polyline")] == ["a < b", "c"]
    assert [dot.findtext("title") for dot in drawn.iter("circle")] == ["a & b"]


def test_higher_values_stand_higher_and_larger_ones_further_right() -> None:
    drawn = ET.fromstring(plot((ACROSS, UP), [], [Dot((0.2, 0.3), "low"), Dot((0.9, 0.7), "high")], "dots"))
    low, high = drawn.iter("circle")
    assert float(low.attrib["cx"]) < float(high.attrib["cx"])
    assert float(low.attrib["cy"]) > float(high.attrib["cy"])


def test_thousands_are_written_out() -> None:
    drawn = ET.fromstring(plot((Axis("micro-dollars", 0.0, 1_250.0), UP), [], [], "an axis"))
    words = {text.text for text in drawn.iter("text")}
    assert "1,000" in words
    assert not [word for word in words if word and "e+" in word]
