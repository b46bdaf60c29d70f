"""Shadows in a data set: one small file beside the rows, since few requests have one and nothing of the others changes."""

from typing import Any

from heimdall_fleet.learn.dataset import Layout
from heimdall_fleet.learn.sql import Engine, files, quoted


def merge_shadows(engine: Engine, layout: Layout) -> None:
    """Put `new_shadow` into the file: the first record of each request counts, one that tells of calls alone is none."""
    if not engine.run("SELECT 1 FROM new_shadow WHERE state IS NOT NULL LIMIT 1"):
        return
    known = files([layout.shadows]) if layout.shadows.exists() else "(SELECT * EXCLUDE (seq) FROM new_shadow LIMIT 0)"
    fresh = layout.work / "shadows.parquet"
    engine.run(
        f"""COPY (SELECT * EXCLUDE (seq, place) FROM
                    (SELECT *, row_number() OVER (PARTITION BY request_id ORDER BY seq) AS place
                     FROM (SELECT *, -1 AS seq FROM {known}
                           UNION ALL BY NAME SELECT * FROM new_shadow WHERE state IS NOT NULL))
                  WHERE place = 1 ORDER BY epoch_us(time), request_id)
            TO '{quoted(fresh)}' (FORMAT parquet, COMPRESSION zstd)"""
    )
    fresh.replace(layout.shadows)


def judge_of_served(engine: Engine, layout: Layout) -> tuple[int, float | None]:
    """Of how many rows a judge scored the answer that their caller got, beside a shadow's, and the mean."""
    if not layout.shadows.exists():
        return 0, None
    count, mean = engine.run(
        f"""SELECT count(*), avg(judge_served) FROM {files([layout.shadows])}
            WHERE state = 'answered' AND judge_served IS NOT NULL AND judge_shadow IS NOT NULL
              AND request_id IN (SELECT request_id FROM rows_everywhere WHERE decision_type IS NOT NULL)"""
    )[0]
    return int(count), mean


def survey_shadows(engine: Engine, layout: Layout) -> dict[str, Any]:
    """How many there are, how many of them were answered and judged, and how many stand beside a row."""
    if not layout.shadows.exists():
        return {"records": 0, "answered": 0, "judged": 0, "paired": 0, "cost_usd_micros": 0}
    table = files([layout.shadows])
    records, answered, judged, cost = engine.run(
        f"""SELECT count(*), count(*) FILTER (state = 'answered'), count(judge_shadow), coalesce(sum(cost_usd_micros), 0)
            FROM {table}"""
    )[0]
    (paired,) = engine.run(
        f"""SELECT count(*) FROM {table} WHERE state = 'answered'
            AND request_id IN (SELECT request_id FROM rows_everywhere WHERE decision_type IS NOT NULL)"""
    )[0]
    return {
        "records": records,
        "answered": answered,
        "judged": judged,
        "paired": paired,
        "cost_usd_micros": int(cost),
    }
