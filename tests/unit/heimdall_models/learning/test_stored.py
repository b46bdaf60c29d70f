"""A data set's values are looked at before anything is learned from them, whoever wrote them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.heimdall_fleet.learn.made import Desk, decision, feedback, outcome, shadow

from heimdall_models.features import FEATURE_NAMES
from heimdall_models.learning.logged import DatasetError, is_dataset, read_logged
from heimdall_models.learning.stored import NO_NUMBERS, ODD_CHANCE, ODD_REWARD, ODD_SHADOW

NAMES = [f"r{at}" for at in range(6)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.run(*(each(name) for name in NAMES for each in (decision, outcome, lambda name: feedback(name, score=0.5))))
    return made


def rewrite(file: Path, change: Callable[[Any], Any]) -> None:
    pq.write_table(change(pq.read_table(file, partitioning=None)), file)


def put(column: str, values: Sequence[Any], kind: Any = None) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        return table.set_column(table.schema.get_field_index(column), column, pa.array(values, kind))

    return change


def day(desk: Desk) -> Path:
    (file,) = desk.layout.days().values()
    return file


def test_a_reward_that_is_none_counts_as_unknown(desk: Desk) -> None:
    rewrite(day(desk), put("reward", [0.0, 1.0, float("nan"), 7.0, -0.1, float("inf")]))

    logged = read_logged(desk.out)

    assert np.sort(logged.reward)[:2].tolist() == [0.0, 1.0]
    assert np.isnan(logged.reward).sum() == 4
    assert logged.left_out == {ODD_REWARD: 3}


def test_a_probability_that_is_none_counts_as_unknown(desk: Desk) -> None:
    rewrite(day(desk), put("p_served", [0.5, 1.0, 0.0, -1.0, 1.5, None]))

    logged = read_logged(desk.out)

    assert np.isnan(logged.p_served).sum() == 4
    assert logged.left_out == {ODD_CHANCE: 3}


def test_a_log_without_probabilities_has_none(desk: Desk) -> None:
    rewrite(day(desk), lambda table: table.drop_columns(["p_served", "p_chosen"]))

    assert np.isnan(read_logged(desk.out).p_served).all()


def test_a_row_whose_features_are_no_numbers_is_left_out(desk: Desk) -> None:
    numeric = np.zeros((len(NAMES), len(FEATURE_NAMES)), np.float32)
    numeric[1, 0], numeric[2, 3] = np.nan, np.inf
    rewrite(day(desk), put("features", numeric.tolist(), pa.list_(pa.float32(), len(FEATURE_NAMES))))

    logged = read_logged(desk.out)

    assert (len(logged), logged.left_out) == (4, {NO_NUMBERS: 2})


def test_a_shadow_without_a_probability_is_none(desk: Desk) -> None:
    desk.run(shadow("r1"), shadow("r2", p_drawn=0.0))

    logged = read_logged(desk.out)

    assert logged.left_out == {ODD_SHADOW: 1}
    assert logged.request_id[logged.shadows.model >= 0].tolist() == ["r1"]


def test_rows_that_a_cluster_wrote_are_read_like_those_of_a_replay(desk: Desk) -> None:
    """Spark's files have names of their own, moments in nanoseconds without a zone, and lists of no fixed size."""
    before = read_logged(desk.out)

    def as_spark(table: Any) -> Any:
        table = put("features", table["features"].to_pylist(), pa.list_(pa.float32()))(table)
        moments = table["time"].cast(pa.timestamp("us")).cast(pa.timestamp("ns"))
        return table.set_column(table.schema.get_field_index("time"), "time", moments)

    rewrite(day(desk), as_spark)
    day(desk).rename(day(desk).with_name("part-00000-c000.snappy.parquet"))

    found = read_logged(desk.out)

    assert found.time_ms.tolist() == before.time_ms.tolist()
    assert np.array_equal(found.features, before.features)
    assert found.reward.tolist() == before.reward.tolist()


def test_rows_without_their_manifest_are_no_outcome_tables(desk: Desk) -> None:
    desk.layout.manifest.unlink()

    with pytest.raises(DatasetError, match=r"rows of decisions without a manifest\.json; put that of a replay"):
        is_dataset(desk.out)
