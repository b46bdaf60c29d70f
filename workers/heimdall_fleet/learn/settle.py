"""Incoming decisions, outcomes and feedback become rows of the data set: one Parquet file a day, rewritten if touched.

The steps, and why a crash between any two loses nothing:

1. Feedback is merged into one file (replaced whole), and so are shadows. Merging them again changes nothing.
2. The days to write are found: those of new decisions, and those that hold a request of which anything new is known.
3. One narrow table is made of all that is known of a request beside its decision: the day, the first outcome, folded
   feedback, what followed in the session.
4. Each day is joined with it, a few files at a time, and replaces its file whole. Existing rows are inputs like the
   incoming ones, and of two records of one id the first read counts, so doing it again gives the same file.
5. Only then the caller forgets the incoming files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from heimdall_fleet.heap import settle_heap
from heimdall_fleet.learn import columns
from heimdall_fleet.learn.dataset import Layout
from heimdall_fleet.learn.records import DECISION_FIELDS, OUTCOME_FIELDS
from heimdall_fleet.learn.shadows import merge_shadows, survey_shadows
from heimdall_fleet.learn.sql import Engine, files

DAY = "strftime(make_timestamp(epoch_us(time)), '%Y-%m-%d')"
"""Whole microseconds since 1970 and plain timestamps: what DuckDB does with zones needs an extension and a setting."""

STANDS = -1
"""In place of the number of a record: a row that is in the data set. It was read before all that come."""

_PIECEMEAL = "(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 8192)"

PIECE_FILES = 2
"""Incoming files that are joined at a time: so many rows the join holds, however long the day is."""

FOLLOWUP_CHARS = 400
"""Of each question that its edit distance to the next is taken over: the time it takes grows with the square."""

_OUTCOME = [name for name in OUTCOME_FIELDS if name not in ("request_id", "time", "tenant", "bucket")]
_DECISION = [name for name in DECISION_FIELDS if name not in ("request_id", "time", "tenant", "bucket")]
_WIDE = ("packed", "features", "clusters", "candidates")
_STANDS = "NULL::BLOB AS packed, features, clusters, candidates"
_COMES = "packed, NULL::FLOAT[] AS features, clusters, candidates"
"""The wide columns of a row that is in the data set, and of one that comes."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How rewards are read: the weight of each signal, and how long after a question its retry may come."""

    weights: Mapping[str, float]
    retry_within: timedelta

    def as_json(self) -> dict[str, Any]:
        return {"weights": dict(self.weights), "retry_within_s": self.retry_within.total_seconds()}


@dataclass(frozen=True, slots=True)
class Settled:
    """Rows of each day that was written, and counts over those days."""

    days: dict[str, int]
    counts: dict[str, int]


def settle(layout: Layout, incoming: list[Path], terms: Terms, *, everything: bool = False) -> Settled:
    """Write the incoming files into the data set. `everything`: every day again, since the terms have changed."""
    with Engine(layout.work) as engine:
        _sources(engine, layout, incoming)
        _merge_feedback(engine, layout)
        merge_shadows(engine, layout)
        days = _touched(engine, layout, terms, everything)
        if not days:
            return Settled({}, {})
        _narrow_tables(engine, layout, days, terms)
        counts = _counts(engine)
    # The old engine has filled its memory with tables: a new one begins without, however many there were.
    settle_heap()
    with Engine(layout.work) as engine:
        written = {day: _write_day(engine, layout, day, incoming, terms) for day in days}
    return Settled(written, counts)


def _sources(engine: Engine, layout: Layout, incoming: list[Path]) -> None:
    for table in ("decision", "outcome", "feedback", "shadow"):
        nothing = layout.work / f"no-{table}.parquet"
        columns.empty(table, nothing)
        found = [path for path in incoming if path.name.startswith(table)]
        engine.run(f"CREATE TEMP VIEW new_{table} AS SELECT * FROM {files([nothing, *found])}")
    nothing = layout.work / "no-rows.parquet"
    columns.empty_rows(nothing)
    existing = files([nothing, *layout.days().values()])
    engine.run(f"CREATE TEMP VIEW rows_everywhere AS SELECT * FROM {existing}")


def _merge_feedback(engine: Engine, layout: Layout) -> None:
    """All feedback ever read, each saying once; that of ids yet unknown waits here for its request."""
    known = files([layout.feedback]) if layout.feedback.exists() else "new_feedback WHERE false"
    fresh = layout.work / "feedback.parquet"
    engine.run(
        f"""COPY (SELECT request_id, time, score, accepted, label, min(seq) AS seq
                  FROM (SELECT * FROM {known} UNION ALL BY NAME SELECT * FROM new_feedback)
                  GROUP BY ALL) TO '{_quoted(fresh)}' (FORMAT parquet, COMPRESSION zstd)"""
    )
    fresh.replace(layout.feedback)
    engine.run(f"CREATE TEMP VIEW feedback AS SELECT * FROM {files([layout.feedback])}")


def _touched(engine: Engine, layout: Layout, terms: Terms, everything: bool) -> list[str]:
    """Days that must be written, in order."""
    days = set(layout.days())
    found = engine.run(f"SELECT DISTINCT {DAY} FROM new_decision UNION SELECT {DAY} FROM new_outcome")
    fresh = {day for (day,) in found}
    if not days:
        return sorted(fresh)
    engine.run(
        """CREATE TABLE new_ids AS SELECT request_id FROM new_decision UNION SELECT request_id FROM new_outcome
           UNION SELECT request_id FROM new_feedback"""
    )
    found = engine.run(
        f"""SELECT DISTINCT {DAY} FROM rows_everywhere WHERE request_id IN (FROM new_ids)
            UNION SELECT DISTINCT {DAY} FROM new_decision
            UNION SELECT DISTINCT {DAY} FROM new_outcome
                  WHERE request_id NOT IN (SELECT request_id FROM new_decision)
                    AND request_id NOT IN (SELECT request_id FROM rows_everywhere)
            UNION SELECT DISTINCT strftime(make_timestamp(epoch_us(time) - $within), '%Y-%m-%d') FROM new_decision""",
        {"within": _micros(terms.retry_within)},
    )
    wanted = {day for (day,) in found} | (days if everything else set())
    return sorted(wanted & (days | fresh))


def _narrow_tables(engine: Engine, layout: Layout, days: list[str], terms: Terms) -> None:
    """Everything of a request but its features and candidates, for the days that are written."""
    nothing = layout.work / "no-rows.parquet"
    there = layout.days()
    around = sorted({near for day in days for near in _near(day)} | set(days))
    for view, wanted in (("rows_touched", days), ("rows_around", around)):
        found = files([nothing, *(there[day] for day in wanted if day in there)])
        engine.run(f"CREATE TEMP VIEW {view} AS SELECT * FROM {found}")
    _outcomes(engine)
    _followed(engine, terms)
    _facts(engine, layout)
    _cached(engine, layout)


def _near(day: str) -> tuple[str, str]:
    at = date.fromisoformat(day)
    return (at - timedelta(days=1)).isoformat(), (at + timedelta(days=1)).isoformat()


def _outcomes(engine: Engine) -> None:
    """Views of all outcomes, and of the first of each request.

    One without a state tells of calls that led to no ending: their cost is added to the ending's.
    """
    wanted = ", ".join(("request_id", "time", "tenant", "bucket", *_OUTCOME))
    engine.run(
        f"""CREATE TEMP VIEW every_outcome AS
            SELECT {wanted}, {STANDS} AS seq FROM rows_touched WHERE state IS NOT NULL
            UNION ALL SELECT {wanted}, seq FROM new_outcome"""
    )
    engine.run(
        """CREATE TABLE outcome_copies AS
           SELECT request_id, coalesce(min(seq) FILTER (state IS NOT NULL), min(seq)) AS seq,
                  min(state) <> max(state) AS contradicting,
                  coalesce(sum(cost_usd_micros) FILTER (state IS NULL), 0) AS wasted FROM every_outcome
           GROUP BY request_id HAVING count(*) > 1"""
    )
    engine.run(
        """CREATE TEMP VIEW outcomes AS
           SELECT o.* REPLACE (o.cost_usd_micros + coalesce(c.wasted, 0) AS cost_usd_micros)
           FROM every_outcome o LEFT JOIN outcome_copies c ON c.request_id = o.request_id
           WHERE c.seq IS NULL OR c.seq = o.seq"""
    )


def _facts(engine: Engine, layout: Layout) -> None:
    """All that is known of a request beside its decision, under the day of the decision, else under the outcome's own.

    `seq` is the number of the decision that counts; null where there is none. Of contradicting feedback the latest word
    counts, each of score, accepted and label for itself.
    """
    last = "arg_max({0}, (coalesce(epoch_us(time), 0), seq)) FILTER ({0} IS NOT NULL) AS {0}"
    folded = ", ".join(last.format(name) for name in ("score", "accepted", "label"))
    outcome = ", ".join(f"o.{name}" for name in _OUTCOME)
    engine.run(
        f"""COPY (
            WITH ids AS (
                SELECT request_id, min(seq) AS seq, arg_min(time_us, seq) AS time_us, count(*) AS copies
                FROM (SELECT request_id, {STANDS} AS seq, epoch_us(time) AS time_us FROM rows_touched
                      WHERE decision_type IS NOT NULL
                      UNION ALL SELECT request_id, seq, epoch_us(time) FROM new_decision)
                GROUP BY request_id),
            said AS (
                SELECT request_id, {folded}, min(score) <> max(score) OR min(accepted) <> max(accepted)
                           OR min(label) <> max(label) AS contradicting
                FROM feedback GROUP BY request_id)
            SELECT coalesce(i.request_id, o.request_id) AS request_id,
                   strftime(make_timestamp(coalesce(i.time_us, epoch_us(o.time))), '%Y-%m-%d') AS day, i.seq, i.copies,
                   o.time AS outcome_time, o.tenant AS outcome_tenant, o.bucket AS outcome_bucket, {outcome},
                   s.score AS r_score, s.accepted, s.label, s.contradicting, f.retried, f.followup
            FROM outcomes o FULL JOIN ids i ON i.request_id = o.request_id
            LEFT JOIN said s ON s.request_id = coalesce(i.request_id, o.request_id)
            LEFT JOIN followed f ON f.request_id = i.request_id
            ORDER BY i.seq) TO '{_quoted(layout.facts)}' {_PIECEMEAL}"""
    )
    engine.run(f"CREATE TEMP VIEW facts AS SELECT * FROM {files([layout.facts])}")


def _followed(engine: Engine, terms: Terms) -> None:
    """What the same session asked next. Where the time for a retry has not passed yet, nothing is known."""
    engine.run(
        f"""CREATE TABLE followed AS
            WITH asked AS (
                SELECT request_id, min(epoch_us(time)) AS time_us, any_value(tenant) AS tenant,
                       any_value(session) AS session, any_value(question) AS question,
                       any_value(left(text, {FOLLOWUP_CHARS})) AS text
                FROM (SELECT request_id, time, tenant, session, question, text FROM rows_around
                      UNION ALL SELECT request_id, time, tenant, session, question, text FROM new_decision)
                WHERE session IS NOT NULL AND (question IS NOT NULL OR text IS NOT NULL)
                GROUP BY request_id),
            next AS (
                SELECT *, lead(time_us) OVER same - time_us AS until_same,
                       lead(time_us) OVER any_next - time_us AS until_next,
                       lead(text) OVER any_next AS next_text, max(time_us) OVER () AS horizon
                FROM asked
                WINDOW same AS (PARTITION BY tenant, session, question ORDER BY time_us, request_id),
                       any_next AS (PARTITION BY tenant, session ORDER BY time_us, request_id))
            SELECT request_id,
                   CASE WHEN question IS NULL THEN NULL
                        WHEN until_same <= $within THEN true
                        WHEN time_us + $within <= horizon THEN false END AS retried,
                   CASE WHEN until_next <= $within AND length(text) > 0 AND length(next_text) > 0
                        THEN levenshtein(text, next_text) / greatest(length(text), length(next_text)) END AS followup
            FROM next""",
        {"within": _micros(terms.retry_within)},
    )


def _cached(engine: Engine, layout: Layout) -> None:
    """Features and candidates of the decisions that cached ones were copied from."""
    found = ", ".join(f"any_value({name}) AS {name}" for name in _WIDE)
    engine.run(
        f"""COPY (
            SELECT request_id, {found}
            FROM (SELECT request_id, {_STANDS} FROM rows_around WHERE features IS NOT NULL
                  UNION ALL SELECT request_id, {_COMES} FROM new_decision WHERE packed IS NOT NULL)
            WHERE request_id IN (
                SELECT cached_from FROM new_decision WHERE cached_from IS NOT NULL
                UNION SELECT cached_from FROM rows_touched WHERE cached_from IS NOT NULL AND features IS NULL)
            GROUP BY request_id) TO '{_quoted(layout.origins)}' {_PIECEMEAL}"""
    )
    engine.run(f"CREATE TEMP VIEW origins AS SELECT * FROM {files([layout.origins])}")


def _write_day(engine: Engine, layout: Layout, day: str, incoming: list[Path], terms: Terms) -> int:
    """Rows of the day; 0 also takes its file away."""
    file, fresh = layout.day(day), layout.work / f"{day}.parquet"
    come = [path for path in incoming if decided_on(path) == day]
    finish = partial(columns.finished, weights=terms.weights)
    count = columns.write_rows(map(finish, _joined(engine, layout, day, come)), fresh)
    if count:
        file.parent.mkdir(exist_ok=True)
        fresh.replace(file)
    else:
        fresh.unlink()
        file.unlink(missing_ok=True)
    return count


def _joined(engine: Engine, layout: Layout, day: str, come: list[Path]) -> Iterator[Any]:
    """The day's decisions, each with its facts; then outcomes that never had a decision."""
    facts = ", ".join(f"f.{name}" for name in (*_OUTCOME, "r_score", "accepted", "label", "retried", "followup"))
    decision = ", ".join(f"d.{name}" for name in _DECISION)
    own = "d.features IS NOT NULL OR d.packed IS NOT NULL"
    wide = ", ".join(f"CASE WHEN {own} THEN d.{name} ELSE c.{name} END AS {name}" for name in _WIDE)
    known, origins = files([layout.facts]), files([layout.origins])
    for rows, first, last in _pieces(layout, day, come):
        yield from engine.batches(
            f"""SELECT d.request_id, d.time, coalesce(d.tenant, f.outcome_tenant) AS tenant,
                       coalesce(d.bucket, f.outcome_bucket) AS bucket, {decision}, {wide}, {facts}
                FROM ({rows}) d
                JOIN (SELECT * FROM {known} WHERE day = $day AND seq BETWEEN $first AND $last) f
                     ON f.request_id = d.request_id AND f.seq = d.seq
                LEFT JOIN {origins} c ON c.request_id = d.cached_from""",
            {"day": day, "first": first, "last": last},
        )
    none = ", ".join(f"d.{name}" for name in (*_DECISION, *_WIDE))
    listed, nothing = ", ".join(DECISION_FIELDS), files([layout.work / "no-decision.parquet"])
    yield from engine.batches(
        f"""SELECT f.request_id, f.outcome_time AS time, f.outcome_tenant AS tenant, f.outcome_bucket AS bucket,
                   {none}, {facts}
            FROM {known} f LEFT JOIN (SELECT {listed}, {_COMES} FROM {nothing}) d ON false
            WHERE f.day = $day AND f.seq IS NULL""",
        {"day": day},
    )


def _pieces(layout: Layout, day: str, come: list[Path]) -> Iterator[tuple[str, int, int]]:
    """Queries for the day's decisions, with the first and the last number that a record of theirs can have."""
    listed = ", ".join(DECISION_FIELDS)
    if (file := layout.day(day)).exists():
        there = files([layout.work / "no-rows.parquet", file])
        yield (
            f"SELECT {listed}, {_STANDS}, {STANDS} AS seq FROM {there} WHERE decision_type IS NOT NULL",
            STANDS,
            STANDS,
        )
    firsts = [*(first_of(path) for path in come), 1 << 62]
    for at in range(0, len(come), PIECE_FILES):
        piece = come[at : at + PIECE_FILES]
        yield f"SELECT {listed}, {_COMES}, seq FROM {files(piece)}", firsts[at], firsts[at + len(piece)] - 1


def _counts(engine: Engine) -> dict[str, int]:
    """Over the days that were written."""
    queries = {
        "copies": "SELECT coalesce(sum(copies - 1), 0) FROM facts",
        "contradicting_outcomes": "SELECT count(*) FROM outcome_copies WHERE contradicting",
        "contradicting_feedback": "SELECT count(*) FROM facts WHERE contradicting",
        "cached_without_origin": """SELECT count(*) FROM new_decision d
            WHERE cached_from IS NOT NULL AND cached_from NOT IN (SELECT request_id FROM origins)""",
    }
    return {name: int(engine.run(query)[0][0]) for name, query in queries.items()}


_STANDING = {
    "rows": "count(*)",
    "without_outcome": "count(*) FILTER (state IS NULL)",
    "without_decision": "count(*) FILTER (decision_type IS NULL)",
    "without_features": "count(*) FILTER (decision_type IS NOT NULL AND features IS NULL)",
    "explored": "count(*) FILTER (explored)",
    "explicit": "count(*) FILTER (reward_source = 'explicit')",
    "implicit": "count(*) FILTER (reward_source = 'implicit')",
}


def survey(layout: Layout, signals: tuple[str, ...]) -> dict[str, Any]:
    """The data set as it stands: rows, days, what is missing, coverage and mean of each signal."""
    with Engine(layout.work) as engine:
        _sources(engine, layout, [])
        spoken = ["reward", *(f"r_{name}" for name in signals)]
        asked = [*_STANDING.values(), *(f"count({name}), avg({name})" for name in spoken)]
        found = engine.run(f"SELECT {', '.join(asked)} FROM rows_everywhere")[0]
        standing = dict(zip(_STANDING, found, strict=False))
        rows, pairs = standing["rows"], found[len(_STANDING) :]
        coverage = {
            name: {"rows": count, "share": round(count / rows, 6) if rows else 0.0, "mean": _rounded(mean)}
            for name, count, mean in zip(("reward", *signals), pairs[::2], pairs[1::2], strict=True)
        }
        days = engine.run(f"SELECT {DAY} AS day, count(*) FROM rows_everywhere GROUP BY day ORDER BY day")
        versions = engine.run(
            "SELECT coalesce(feature_version, 'none') AS v, count(*) FROM rows_everywhere GROUP BY v ORDER BY v"
        )
        orphans = (
            f"""SELECT count(DISTINCT request_id) FROM {files([layout.feedback])}
                WHERE request_id NOT IN (SELECT request_id FROM rows_everywhere)"""
            if layout.feedback.exists()
            else "SELECT 0"
        )
        return {
            **standing,
            "days": dict(days),
            "feature_versions": dict(versions),
            "feedback_for_unknown_ids": int(engine.run(orphans)[0][0]),
            "coverage": coverage,
            "shadows": survey_shadows(engine, layout),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def decision_file(number: int, day: str) -> str:
    """Name of an incoming file: decisions come by day."""
    return f"decision-{number:09d}-{day}.parquet"


def first_of(path: Path) -> int:
    """The number of the first record in a file of decisions."""
    return int(path.stem.split("-", 2)[1])


def decided_on(path: Path) -> str | None:
    return path.stem.split("-", 2)[2] if path.name.startswith("decision-") else None
