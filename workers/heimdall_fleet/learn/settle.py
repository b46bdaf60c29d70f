"""Incoming decisions, outcomes and feedback become rows of the data set: one Parquet file a day, rewritten if touched.

The steps, and why a crash between any two loses nothing:

1. Feedback is merged into one file (replaced whole), and so are shadows. Merging them again changes nothing.
2. The days to write are found: those of new decisions, and those that hold a request of which anything new is known.
3. One narrow table is made of all that is known of a request beside its decision: the day, the first outcome, folded
   feedback, what followed in the session. So many requests at a time, each time into a file (facts.py).
4. Each day is put together with it, a file's rows at a time, and replaces its file whole. Existing rows are inputs like the
   incoming ones, and of two records of one id the first read counts, so doing it again gives the same file.
5. Only then the caller forgets the incoming files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import count, starmap
from pathlib import Path
from typing import Any

from heimdall_fleet.learn import columns
from heimdall_fleet.learn.dataset import Layout
from heimdall_fleet.learn.facts import DAY, OUTCOME, PASS_REQUESTS, STANDS, Facts, counts, micros, narrow_tables
from heimdall_fleet.learn.shadows import judge_of_served, merge_shadows, survey_shadows
from heimdall_fleet.learn.sql import Engine, files, quoted
from heimdall_fleet.system.heap import settle_heap


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


@dataclass(frozen=True, slots=True)
class Read:
    """Files of what is new, and of what is known of each request beside its decision."""

    incoming: list[Path]
    facts: list[Facts]
    batches: Iterator[int] = field(default_factory=lambda: count(1))
    """Numbers of the batches of decisions, over all days."""


def settle(
    layout: Layout, incoming: list[Path], terms: Terms, *, everything: bool = False, at_a_time: int = PASS_REQUESTS
) -> Settled:
    """Write the incoming files into the data set. `everything`: every day again, since the terms have changed.

    `at_a_time`: about so many requests are joined at once, which bounds the memory.
    """
    with Engine(layout.work) as engine:
        _sources(engine, layout, incoming)
        _merge_feedback(engine, layout)
        merge_shadows(engine, layout)
        days = _touched(engine, layout, terms, everything)
        if not days:
            return Settled({}, {})
        known = narrow_tables(engine, layout, days, terms.retry_within, at_a_time)
        counted = counts(engine)
    # The old engine has filled its memory with tables: a new one begins without, however many there were.
    settle_heap()
    read = Read(incoming, known)
    with Engine(layout.work) as engine:
        written = {day: _write_day(engine, layout, day, read, terms) for day in days}
    return Settled(written, counted)


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
                  GROUP BY ALL) TO '{quoted(fresh)}' (FORMAT parquet, COMPRESSION zstd)"""
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
        {"within": micros(terms.retry_within)},
    )
    wanted = {day for (day,) in found} | (days if everything else set())
    return sorted(wanted & (days | fresh))


def _write_day(engine: Engine, layout: Layout, day: str, read: Read, terms: Terms) -> int:
    """Rows of the day; 0 also takes its file away."""
    file, fresh = layout.day(day), layout.work / f"{day}.parquet"
    finish = partial(columns.finished, weights=terms.weights)
    rows = columns.write_rows(starmap(finish, _joined(engine, layout, day, read)), fresh)
    if rows:
        file.parent.mkdir(exist_ok=True)
        fresh.replace(file)
    else:
        fresh.unlink()
        file.unlink(missing_ok=True)
    return rows


TRIM_EVERY = 4
"""Batches after which free memory is given back: more often takes time, since it is taken again; less often takes memory."""

_KNOWN = f"outcome_tenant, outcome_bucket, {', '.join(OUTCOME)}, r_score, accepted, label, retried, followup"


def _joined(engine: Engine, layout: Layout, day: str, read: Read) -> Iterator[tuple[Any, Any]]:
    """The day's decisions a batch at a time, each with its facts; then outcomes that never had a decision.

    Both sides know the number of a decision, so no more than a batch is looked at to find what belongs together.
    """
    come = [path for path in read.incoming if decided_on(path) == day]
    for batch in _decisions(layout, day, come):
        yield _with_facts(engine, layout, day, batch, read.facts)
        if next(read.batches) % TRIM_EVERY == 0:
            settle_heap()
    known = files([each.path for each in read.facts])
    for facts in engine.batches(
        f"SELECT request_id, outcome_time AS time, {_KNOWN} FROM {known} WHERE day = $day AND seq IS NULL", {"day": day}
    ):
        yield columns.undecided(facts), facts


def _with_facts(engine: Engine, layout: Layout, day: str, batch: Any, known: list[Facts]) -> tuple[Any, Any]:
    first, last = columns.span(batch)
    near = [each.path for each in known if each.first <= last and first <= each.last] or [known[0].path]
    facts = engine.table(
        f"SELECT seq, {_KNOWN} FROM {files(near)} WHERE day = $day AND seq BETWEEN $first AND $last",
        {"day": day, "first": first, "last": last},
    )
    decided = columns.those(batch, facts)
    if columns.lack_features(decided):
        origin = f"SELECT * FROM {files([layout.origins])} WHERE request_id IN (SELECT unnest($ids::VARCHAR[]))"
        decided = columns.copied(decided, engine.table(origin, {"ids": columns.wanted_origins(decided)}))
    return decided, facts


def _decisions(layout: Layout, day: str, come: list[Path]) -> Iterator[Any]:
    if (file := layout.day(day)).exists():
        yield from columns.standing(file, STANDS)
    for path in come:
        yield from columns.come(path)


_STANDING = {
    "rows": "count(*)",
    "without_outcome": "count(*) FILTER (state IS NULL)",
    "without_decision": "count(*) FILTER (decision_type IS NULL)",
    # Clusters are null where features are, and are read in a seventh of the time.
    "without_features": "count(*) FILTER (decision_type IS NOT NULL AND clusters IS NULL)",
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
        rows, pairs = standing["rows"], [*found[len(_STANDING) :], *judge_of_served(engine, layout)]
        coverage = {
            name: {"rows": count, "share": round(count / rows, 6) if rows else 0.0, "mean": _rounded(mean)}
            for name, count, mean in zip(("reward", *signals, "judge"), pairs[::2], pairs[1::2], strict=True)
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


def decision_file(number: int, day: str) -> str:
    """Name of an incoming file: decisions come by day."""
    return f"decision-{number:09d}-{day}.parquet"


def decided_on(path: Path) -> str | None:
    return path.stem.split("-", 2)[2] if path.name.startswith("decision-") else None
