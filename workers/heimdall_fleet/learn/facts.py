"""All that is known of a request beside its decision, in one narrow file; and what cached decisions were copied from."""

from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from heimdall_fleet.learn.dataset import Layout
from heimdall_fleet.learn.records import OUTCOME_FIELDS
from heimdall_fleet.learn.sql import Engine, files, quoted

DAY = "strftime(make_timestamp(epoch_us(time)), '%Y-%m-%d')"
"""Whole microseconds since 1970 and plain timestamps: what DuckDB does with zones needs an extension and a setting."""

STANDS = -1 << 40
"""A row that is in the data set has, for the number of a record, its place in its file above this: it was read before all
that come."""

_PIECEMEAL = "(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 8192)"

PASS_REQUESTS = 64_000
"""Requests that are joined at a time: at least SAMPLED."""

SAMPLED = 64
"""Of so many requests one is looked at to find where a pass ends."""

FOLLOWUP_CHARS = 400
"""Of each question that its edit distance to the next is taken over: the time it takes grows with the square."""

OUTCOME = [name for name in OUTCOME_FIELDS if name not in ("request_id", "time", "tenant", "bucket")]
"""Columns that a request has from its outcome alone."""


class Facts(NamedTuple):
    """A file of what is known, with the numbers of its first and its last decision: 0 and -1 where there is none."""

    path: Path
    first: int
    last: int


def narrow_tables(engine: Engine, layout: Layout, days: list[str], within: timedelta, at_a_time: int) -> list[Facts]:
    """Everything of a request but its features and candidates, for the days that are written, so many requests at a time."""
    nothing = layout.work / "no-rows.parquet"
    there = layout.days()
    around = sorted({near for day in days for near in _near(day)} | set(days))
    for view, wanted in (("rows_touched", days), ("rows_around", around)):
        found = files([nothing, *(there[day] for day in wanted if day in there)], numbered=True)
        engine.run(f"CREATE TEMP VIEW {view} AS SELECT * FROM {found}")
    _followed(engine, within, at_a_time)
    made = []
    for number, among in enumerate(_ranges(engine, at_a_time)):
        _outcomes(engine, among)
        made.append(_facts(engine, layout.facts(number), among))
    engine.run(f"CREATE TEMP VIEW facts AS SELECT * FROM {files([each.path for each in made])}")
    _cached(engine, layout)
    return made


def _ranges(engine: Engine, at_a_time: int) -> list[str]:
    """Conditions that cut the requests into passes, so that what is joined at a time does not grow with the records.

    They are ranges since ids are mostly in the order of time, as the records are: a pass then reads its part of them.
    """
    found = engine.run(
        f"""SELECT request_id FROM (
                SELECT request_id, row_number() OVER (ORDER BY request_id) AS place FROM (
                    SELECT DISTINCT request_id FROM (
                        SELECT request_id FROM rows_touched UNION ALL SELECT request_id FROM new_decision
                        UNION ALL SELECT request_id FROM new_outcome)
                    WHERE hash(request_id) % {SAMPLED} = 0))
            WHERE place % {at_a_time // SAMPLED} = 0 ORDER BY request_id"""
    )
    ends = [f"'{quoted(request_id)}'" for (request_id,) in found]
    lower = ["true", *(f"request_id >= {end}" for end in ends)]
    upper = [*(f"request_id < {end}" for end in ends), "true"]
    return [f"{low} AND {high}" for low, high in zip(lower, upper, strict=True)]


def _near(day: str) -> tuple[str, str]:
    at = date.fromisoformat(day)
    return (at - timedelta(days=1)).isoformat(), (at + timedelta(days=1)).isoformat()


def _outcomes(engine: Engine, among: str) -> None:
    """Views of the outcomes of a pass, and of the first of each request.

    One without a state tells of calls that led to no ending: their cost is added to the ending's.
    """
    wanted = ", ".join(("request_id", "time", "tenant", "bucket", *OUTCOME))
    engine.run(
        f"""CREATE OR REPLACE TEMP VIEW every_outcome AS
            SELECT {wanted}, {STANDS} AS seq FROM rows_touched WHERE state IS NOT NULL AND {among}
            UNION ALL SELECT {wanted}, seq FROM new_outcome WHERE {among}"""
    )
    engine.run(
        """CREATE OR REPLACE TABLE outcome_copies AS
           SELECT request_id, coalesce(min(seq) FILTER (state IS NOT NULL), min(seq)) AS seq,
                  min(state) <> max(state) AS contradicting,
                  coalesce(sum(cost_usd_micros) FILTER (state IS NULL), 0) AS wasted FROM every_outcome
           GROUP BY request_id HAVING count(*) > 1"""
    )
    engine.run(
        """CREATE OR REPLACE TEMP VIEW outcomes AS
           SELECT o.* REPLACE (o.cost_usd_micros + coalesce(c.wasted, 0) AS cost_usd_micros), c.contradicting
           FROM every_outcome o LEFT JOIN outcome_copies c ON c.request_id = o.request_id
           WHERE c.seq IS NULL OR c.seq = o.seq"""
    )


def _facts(engine: Engine, out: Path, among: str) -> Facts:
    """All that is known of the requests of a pass beside their decisions.

    It stands under the day of the decision, else under the outcome's own.
    `seq` is the number of the decision that counts; null where there is none. Of contradicting feedback the latest word
    counts, each of score, accepted and label for itself.
    """
    last = "arg_max({0}, (coalesce(epoch_us(time), 0), seq)) FILTER ({0} IS NOT NULL) AS {0}"
    folded = ", ".join(last.format(name) for name in ("score", "accepted", "label"))
    outcome = ", ".join(f"o.{name}" for name in OUTCOME)
    engine.run(
        f"""COPY (
            WITH ids AS (
                SELECT request_id, min(seq) AS seq, arg_min(time_us, seq) AS time_us, count(*) AS copies
                FROM (SELECT request_id, {STANDS} + file_row_number AS seq, epoch_us(time) AS time_us FROM rows_touched
                      WHERE decision_type IS NOT NULL AND {among}
                      UNION ALL SELECT request_id, seq, epoch_us(time) FROM new_decision WHERE {among})
                GROUP BY request_id),
            said AS (
                SELECT request_id, {folded}, min(score) <> max(score) OR min(accepted) <> max(accepted)
                           OR min(label) <> max(label) AS contradicting
                FROM feedback WHERE {among} GROUP BY request_id)
            SELECT coalesce(i.request_id, o.request_id) AS request_id,
                   strftime(make_timestamp(coalesce(i.time_us, epoch_us(o.time))), '%Y-%m-%d') AS day, i.seq, i.copies,
                   o.time AS outcome_time, o.tenant AS outcome_tenant, o.bucket AS outcome_bucket, {outcome},
                   s.score AS r_score, s.accepted, s.label, s.contradicting,
                   o.contradicting AS contradicting_outcomes, f.retried, f.followup
            FROM outcomes o FULL JOIN ids i ON i.request_id = o.request_id
            LEFT JOIN said s ON s.request_id = coalesce(i.request_id, o.request_id)
            LEFT JOIN (FROM followed WHERE {among}) f ON f.request_id = i.request_id
            ORDER BY i.seq) TO '{quoted(out)}' {_PIECEMEAL}"""
    )
    return Facts(out, *engine.run(f"SELECT coalesce(min(seq), 0), coalesce(max(seq), -1) FROM {files([out])}")[0])


def _followed(engine: Engine, within: timedelta, at_a_time: int) -> None:
    """What the same session asked next. Where the time for a retry has not passed yet, nothing is known."""
    wanted = "request_id, time, tenant, session, question, text"
    engine.run(
        f"""CREATE TEMP VIEW questions AS
            SELECT * FROM (SELECT {wanted} FROM rows_around UNION ALL SELECT {wanted} FROM new_decision)
            WHERE session IS NOT NULL AND (question IS NOT NULL OR text IS NOT NULL)"""
    )
    engine.run("CREATE TABLE followed (request_id VARCHAR, retried BOOLEAN, followup DOUBLE)")
    count, horizon = engine.run("SELECT count(*), max(epoch_us(time)) FROM questions")[0]
    passes = -(-count // at_a_time)
    for number in range(passes):
        _followed_among(engine, f"hash(tenant, session) % {passes} = {number}", horizon, within)


def _followed_among(engine: Engine, among: str, horizon: int, within: timedelta) -> None:
    engine.run(
        f"""INSERT INTO followed
            WITH asked AS (
                SELECT request_id, min(epoch_us(time)) AS time_us, any_value(tenant) AS tenant,
                       any_value(session) AS session, any_value(question) AS question,
                       any_value(left(text, {FOLLOWUP_CHARS})) AS text
                FROM questions WHERE {among} GROUP BY request_id),
            next AS (
                SELECT *, lead(time_us) OVER same - time_us AS until_same,
                       lead(time_us) OVER any_next - time_us AS until_next,
                       lead(text) OVER any_next AS next_text
                FROM asked
                WINDOW same AS (PARTITION BY tenant, session, question ORDER BY time_us, request_id),
                       any_next AS (PARTITION BY tenant, session ORDER BY time_us, request_id))
            SELECT request_id,
                   CASE WHEN question IS NULL THEN NULL
                        WHEN until_same <= $within THEN true
                        WHEN time_us + $within <= $horizon THEN false END AS retried,
                   CASE WHEN until_next <= $within AND length(text) > 0 AND length(next_text) > 0
                        THEN levenshtein(text, next_text) / greatest(length(text), length(next_text)) END AS followup
            FROM next""",
        {"within": micros(within), "horizon": horizon},
    )


def _cached(engine: Engine, layout: Layout) -> None:
    """Features and candidates of the decisions that cached ones were copied from; of one that was read twice, twice."""
    engine.run(
        f"""COPY (
            SELECT *
            FROM (SELECT request_id, NULL::BLOB AS packed, features, clusters, candidates
                  FROM rows_around WHERE features IS NOT NULL
                  UNION ALL SELECT request_id, packed, NULL::FLOAT[] AS features, clusters, candidates
                  FROM new_decision WHERE packed IS NOT NULL)
            WHERE request_id IN (
                SELECT cached_from FROM new_decision WHERE cached_from IS NOT NULL
                UNION SELECT cached_from FROM rows_touched WHERE cached_from IS NOT NULL AND features IS NULL)
            ) TO '{quoted(layout.origins)}' {_PIECEMEAL}"""
    )
    engine.run(f"CREATE TEMP VIEW origins AS SELECT * FROM {files([layout.origins])}")


def counts(engine: Engine) -> dict[str, int]:
    """Over the days that were written."""
    queries = {
        "copies": "SELECT coalesce(sum(copies - 1), 0) FROM facts",
        "contradicting_outcomes": "SELECT count(*) FROM facts WHERE contradicting_outcomes",
        "contradicting_feedback": "SELECT count(*) FROM facts WHERE contradicting",
        "cached_without_origin": """SELECT count(*) FROM new_decision d
            WHERE cached_from IS NOT NULL AND cached_from NOT IN (SELECT request_id FROM origins)""",
    }
    return {name: int(engine.run(query)[0][0]) for name, query in queries.items()}


def micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
