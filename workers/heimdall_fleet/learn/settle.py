"""Incoming decisions, outcomes and feedback become rows of the data set: one Parquet file a day, rewritten if touched.

The steps, and why a crash between any two loses nothing:

1. Feedback is merged into one file (replaced whole), and so are shadows. Merging them again changes nothing.
2. The days to write are found: those of new decisions, and those that hold a request of which anything new is known.
3. Narrow tables are made: ids with their day, first outcome of each id, folded feedback, what followed in the session.
4. Each day is joined in one stream and replaces its file whole. Existing rows are inputs like the incoming ones, and of
   two records of one id the first read counts, so doing it again gives the same file.
5. Only then the caller forgets the incoming files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from heimdall_fleet.learn import columns
from heimdall_fleet.learn.dataset import Layout
from heimdall_fleet.learn.records import DECISION_FIELDS, OUTCOME_FIELDS
from heimdall_fleet.learn.shadows import merge_shadows, survey_shadows
from heimdall_fleet.learn.sql import Engine, files

DAY = "strftime(make_timestamp(epoch_us(time)), '%Y-%m-%d')"
"""Whole microseconds since 1970 and plain timestamps: what DuckDB does with zones needs an extension and a setting."""

FOLLOWUP_CHARS = 400
"""Of each question that its edit distance to the next is taken over: the time it takes grows with the square."""

_OUTCOME = [name for name in OUTCOME_FIELDS if name not in ("request_id", "time", "tenant", "bucket")]
_DECISION = [name for name in DECISION_FIELDS if name not in ("request_id", "time", "tenant", "bucket")]
_WIDE = ("features", "clusters", "candidates")


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
        written = {day: _write_day(engine, layout, day, incoming, terms) for day in days}
        return Settled(written, _counts(engine))


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
    fresh = engine.run(f"SELECT DISTINCT {DAY} FROM new_decision UNION SELECT {DAY} FROM new_outcome")
    days = set(layout.days())
    wanted = {day for (day,) in found} | (days if everything else set())
    return sorted(wanted & (days | {day for (day,) in fresh}))


def _narrow_tables(engine: Engine, layout: Layout, days: list[str], terms: Terms) -> None:
    """Everything of a request but its features and candidates, for the days that are written."""
    nothing = layout.work / "no-rows.parquet"
    there = layout.days()
    around = sorted({near for day in days for near in _near(day)} | set(days))
    for view, wanted in (("rows_touched", days), ("rows_around", around)):
        found = files([nothing, *(there[day] for day in wanted if day in there)])
        engine.run(f"CREATE TEMP VIEW {view} AS SELECT * FROM {found}")
    engine.run(
        f"""CREATE TABLE ids AS
            SELECT request_id, min(seq) AS seq, arg_min(day, seq) AS day, count(*) AS copies
            FROM (SELECT request_id, -1 AS seq, {DAY} AS day FROM rows_touched WHERE decision_type IS NOT NULL
                  UNION ALL SELECT request_id, seq, {DAY} FROM new_decision)
            GROUP BY request_id"""
    )
    engine.run("CREATE TABLE copies AS SELECT request_id, seq FROM ids WHERE copies > 1")
    _outcomes(engine)
    _said(engine)
    _followed(engine, terms)
    _cached(engine)


def _near(day: str) -> tuple[str, str]:
    at = date.fromisoformat(day)
    return (at - timedelta(days=1)).isoformat(), (at + timedelta(days=1)).isoformat()


def _outcomes(engine: Engine) -> None:
    """The first outcome of each request, under the day of its decision, else under its own.

    One without a state tells of calls that led to no ending: their cost is added to the ending's.
    """
    wanted = ", ".join(("request_id", "time", "tenant", "bucket", *_OUTCOME))
    engine.run(
        f"""CREATE TEMP VIEW every_outcome AS
            SELECT {wanted}, -1 AS seq, {DAY} AS own_day FROM rows_touched WHERE state IS NOT NULL
            UNION ALL SELECT {wanted}, seq, {DAY} FROM new_outcome"""
    )
    engine.run(
        """CREATE TABLE outcome_copies AS
           SELECT request_id, coalesce(min(seq) FILTER (state IS NOT NULL), min(seq)) AS seq,
                  count(DISTINCT state) AS states,
                  coalesce(sum(cost_usd_micros) FILTER (state IS NULL), 0) AS wasted FROM every_outcome
           GROUP BY request_id HAVING count(*) > 1"""
    )
    engine.run(
        """CREATE TABLE outcomes AS
            SELECT o.* EXCLUDE (seq, own_day) REPLACE (o.cost_usd_micros + coalesce(c.wasted, 0) AS cost_usd_micros),
                   coalesce(i.day, o.own_day) AS day, i.day IS NOT NULL AS decided
            FROM every_outcome o LEFT JOIN ids i USING (request_id)
            LEFT JOIN outcome_copies c ON c.request_id = o.request_id
            WHERE c.seq IS NULL OR c.seq = o.seq"""
    )


def _said(engine: Engine) -> None:
    """Feedback, folded: of contradicting words the latest counts, each of score, accepted and label for itself."""
    last = "arg_max({0}, (coalesce(epoch_us(time), 0), seq)) FILTER ({0} IS NOT NULL) AS {0}"
    folded = ", ".join(last.format(name) for name in ("score", "accepted", "label"))
    engine.run(
        f"""CREATE TABLE said AS
            SELECT request_id, {folded},
                   greatest(count(DISTINCT score), count(DISTINCT accepted), count(DISTINCT label)) > 1 AS contradicting
            FROM feedback
            WHERE request_id IN (SELECT request_id FROM ids) OR request_id IN (SELECT request_id FROM outcomes)
            GROUP BY request_id"""
    )


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


def _cached(engine: Engine) -> None:
    """Features and candidates of the decisions that cached ones were copied from."""
    wide = ", ".join(_WIDE)
    engine.run(
        f"""CREATE TABLE origins AS
            SELECT request_id, any_value(features) AS features, any_value(clusters) AS clusters,
                   any_value(candidates) AS candidates
            FROM (SELECT request_id, {wide} FROM rows_around UNION ALL SELECT request_id, {wide} FROM new_decision)
            WHERE features IS NOT NULL AND request_id IN (
                SELECT cached_from FROM new_decision WHERE cached_from IS NOT NULL
                UNION SELECT cached_from FROM rows_touched WHERE cached_from IS NOT NULL AND features IS NULL)
            GROUP BY request_id"""
    )


def _write_day(engine: Engine, layout: Layout, day: str, incoming: list[Path], terms: Terms) -> int:
    """Rows of the day; 0 also takes its file away."""
    file, fresh = layout.day(day), layout.work / f"{day}.parquet"
    rows = files([layout.work / "no-rows.parquet", *([file] if file.exists() else [])])
    new = files([layout.work / "no-decision.parquet", *(path for path in incoming if decided_on(path) == day)])
    finish = partial(columns.finished, weights=terms.weights)
    count = columns.write_rows(map(finish, _joined(engine, day, rows, new)), fresh)
    if count:
        file.parent.mkdir(exist_ok=True)
        fresh.replace(file)
    else:
        fresh.unlink()
        file.unlink(missing_ok=True)
    return count


def _joined(engine: Engine, day: str, rows: str, new: str) -> Iterator[Any]:
    """The day's decisions in one pass, each with its narrow facts; then outcomes that never had a decision."""
    decision = ", ".join(f"d.{name}" for name in _DECISION)
    outcome = ", ".join(f"o.{name}" for name in _OUTCOME)
    wide = ", ".join(f"CASE WHEN d.features IS NULL THEN c.{name} ELSE d.{name} END AS {name}" for name in _WIDE)
    listed = ", ".join((*DECISION_FIELDS, *_WIDE))
    yield from engine.batches(
        f"""SELECT d.request_id, d.time, coalesce(d.tenant, o.tenant) AS tenant, coalesce(d.bucket, o.bucket) AS bucket,
                   {decision}, {outcome}, {wide}, s.score AS r_score, s.accepted, s.label, f.retried, f.followup
            FROM (SELECT {listed}, -1 AS seq FROM {rows} WHERE decision_type IS NOT NULL
                  UNION ALL SELECT {listed}, seq FROM {new}) d
            LEFT JOIN copies k ON k.request_id = d.request_id
            LEFT JOIN (SELECT * FROM outcomes WHERE day = $day AND decided) o ON o.request_id = d.request_id
            LEFT JOIN said s ON s.request_id = d.request_id
            LEFT JOIN followed f ON f.request_id = d.request_id
            LEFT JOIN origins c ON c.request_id = d.cached_from
            WHERE k.seq IS NULL OR k.seq = d.seq""",
        {"day": day},
    )
    none = ", ".join(f"d.{name}" for name in (*_DECISION, *_WIDE))
    yield from engine.batches(
        f"""SELECT o.request_id, o.time, o.tenant, o.bucket, {none}, {outcome}, s.score AS r_score, s.accepted, s.label,
                   NULL::BOOLEAN AS retried, NULL::DOUBLE AS followup
            FROM outcomes o LEFT JOIN said s ON s.request_id = o.request_id
            LEFT JOIN (SELECT * FROM {new} WHERE false) d ON false
            WHERE o.day = $day AND NOT o.decided""",
        {"day": day},
    )


def _counts(engine: Engine) -> dict[str, int]:
    """Over the days that were written."""
    queries = {
        "copies": "SELECT coalesce(sum(copies - 1), 0) FROM ids",
        "contradicting_outcomes": "SELECT count(*) FROM outcome_copies WHERE states > 1",
        "contradicting_feedback": "SELECT count(*) FROM said WHERE contradicting",
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


def decided_on(path: Path) -> str | None:
    return path.stem.split("-", 2)[2] if path.name.startswith("decision-") else None
