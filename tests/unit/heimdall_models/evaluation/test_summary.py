from typing import Any

from heimdall_models.training.summary import summary

NAN = float("nan")


def side(apgr: float | None, low: float, high: float, lead: float = 0.0) -> dict[str, Any]:
    return {
        "apgr": apgr,
        "apgr_ci95": (low, high),
        "behind_ci95": (lead, lead + 0.1),
        "cpt50": 0.4,
        "cpt80": None,
        "auc": 0.6,
    }


def evaluation(**fields: Any) -> dict[str, Any]:
    return {
        "n": 1234,
        "cheap_mean": 0.5,
        "strong_mean": 0.75,
        **side(0.61, 0.58, 0.64),
        "ece": 0.02,
        "apgr_known": 0.9,
        "baselines": {
            "random": side(0.5, 0.5, 0.5, 0.08),
            "always_cheap": side(0.5, 0.5, 0.5, 0.08),
            "length": side(0.6, 0.57, 0.63, -0.02),
        },
        "pairs": {"mine": {"cheap": ("a", "b"), "strong": ("c",)}},
        "buckets": {"cheap": 0.3, "mid": 0.45, "hard": 0.25},
        "tables": {"mine": {"n": 1234, "cheap": 0.5, "strong": 0.75, "apgr": 0.61}},
        **fields,
    }


def test_the_bundle_stands_above_each_baseline_with_its_lead() -> None:
    lines = summary(evaluation()).splitlines()
    assert lines[:2] == ["1,234 prompts; mean score 0.500 cheap, 0.750 strong", "mine: a, b against c"]
    rows = {line.split("  ")[0]: line.split() for line in lines[3:8]}
    assert rows["this bundle"][2:] == ["0.610", "0.580", "to", "0.640", "0.400", "–", "0.600"]
    assert rows["length"][1:8] == ["0.600", "0.570", "to", "0.630", "-0.020", "to", "+0.080"]
    assert rows["known"] == ["known", "0.900"]
    assert lines[-1] == "buckets: cheap 30 %, mid 45 %, hard 25 %; calibration error 0.020"


def test_single_models_are_left_out_since_they_order_nothing() -> None:
    assert "always" not in summary(evaluation())


def test_several_tables_get_a_row_each() -> None:
    other = {"n": 40, "cheap": 0.2, "strong": 0.9, "apgr": None}
    text = summary(evaluation(tables=evaluation()["tables"] | {"other": other}))
    assert text.splitlines()[-1].split() == ["other", "40", "0.200", "0.900", "–"]


def test_what_is_not_defined_is_a_dash() -> None:
    same = side(None, NAN, NAN, NAN) | {"auc": None}
    text = summary(evaluation(**same, apgr_known=None, baselines={"length": same}))
    assert "nan" not in text.lower()
