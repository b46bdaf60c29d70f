"""MODEL_CARD.md, written from the manifest alone, so that the two can never differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from heimdall_models.training.baselines import BASELINES

_COMPARED = tuple(name for name in BASELINES if name not in ("always_cheap", "always_strong"))


def model_card(manifest: Mapping[str, Any]) -> str:
    """The card of the bundle with this manifest."""
    metrics = manifest.get("metrics", {})
    parts = [
        _head(manifest),
        _data(manifest),
        _left_out(metrics.get("left_out", {})),
        _in_domain(metrics.get("in_domain", {})),
        _few_labels(metrics.get("few_labels", {})),
        _LIMITS if manifest["settings"]["transfer"] else _OWN_LIMITS,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def short_table(metrics: Mapping[str, Any]) -> str:
    """The figures that stand in the README: each table left out of training, beside plain length and own labels."""
    inside = metrics["in_domain"]
    rows = (
        (
            name,
            f"{number(row['apgr'])} ({interval(row['apgr_ci95'])})",
            number(row["baselines"]["length"]["apgr"]),
            f"{number(inside[name]['apgr'])} ({interval(inside[name]['apgr_ci95'])})",
        )
        for name, row in sorted(metrics["left_out"].items())
        if name in inside
    )
    return _table(("table", "left out of training", "length of the prompt", "own labels, five folds"), rows)


def interval(limits: Sequence[float]) -> str:
    """The ends of a 95 % interval, as every page shows them."""
    low, high = limits
    return f"{low:.3f} to {high:.3f}"


def number(value: float | None) -> str:
    """A figure as every page shows it; a dash where it is not defined."""
    return "–" if value is None else f"{value:.3f}"


def _head(manifest: Mapping[str, Any]) -> str:
    m, platt = manifest, manifest["platt"]
    amounts = _amounts(m["text_model"]["slopes"])
    return f"""# Model card

A classifier that says how likely a cheap model answers a prompt well. {m["framework"]} {m["version"]}, {m["tree_count"]} trees
over {m["feature_count"]} features (version {m["feature_version"]}) that correct a hashed n-gram text score; {m["bytes"]} bytes.
Created {m["created"]}; parent {m["parent"] or "none"}.

{amounts}- Output: log-odds, Platt-calibrated (slope {platt["slope"]:.3f}, intercept {platt["intercept"]:.3f}){_bend(m)}
  on predictions for questions that were held out; calibration error there {m["calibration_error"]:.3f} (15 bins), each fifth
  of the questions judged by a calibration on the others.
- Target: `{m["target"]}`; seed {m["settings"]["seed"]}; the exported model differs from the fitted one by at most
  {m["export_largest_difference"]:.1e} in probability over the whole training table.
- Buckets: percentiles of the difficulty of held-out predictions over the distinct prompts of the tables below, on which the
  bundle puts {_buckets(m["reference_buckets"])}. Traffic that is not
  like them lands in other shares: small talk almost all cheap, proofs and large programs mostly hard, and what users ask
  in earnest anywhere, by its length."""


def _bend(manifest: Mapping[str, Any]) -> str:
    steps = manifest["bend_steps"]
    return f",\n  bent by {steps} rising steps over the text score, which are the last tree," if steps else ""


def _amounts(slopes: Mapping[str, float]) -> str:
    if not slopes:
        return ""
    listed = ", ".join(f"{name} {slope:.3f}" for name, slope in sorted(slopes.items())).replace("-", "−")
    return (
        f"- Work: log-odds for each unit of {listed}. That\n"
        "  is what the tables taught; text score and trees learned the everyday prompts, and are held at zero on the tables'.\n"
    )


def _buckets(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{100 * share:.1f} % in {bucket}" for bucket, share in shares.items())


def _data(manifest: Mapping[str, Any]) -> str:
    data = manifest["training_data"]
    tables = _table(
        ("table", "rows", "cheap pool", "strong pool"),
        ((t["name"], str(t["rows"]), ", ".join(t["cheap"]), ", ".join(t["strong"])) for t in data["tables"]),
    )
    sources = "\n".join(f"- {s['repository']} ({s['licence']}): {s['what']}" for s in data["sources"])
    everyday = (
        f"\n\n{data['everyday_prompts']} everyday prompts (chat, translation, everyday code, proofs, system design; several "
        "languages) were written for this project. Their labels are judgements, not measurements."
        if data["everyday_prompts"]
        else ""
    )
    return (
        f"## Training data\n\n{data['rows']} rows, {data['questions']} questions. None of the data is part of this "
        f"repository.\n\n{tables}\n\n{sources}{everyday}".rstrip()
    )


def _left_out(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    return (
        "## On benchmarks left out of training\n\nEach benchmark left out in turn, with every prompt elsewhere that asks one "
        "of its questions; cheap pool against strong pool. APGR, 95 % intervals over questions; random is 0.500, as are "
        "always-cheap and always-strong, which order nothing. *Known* is the order by what the cheap pool really scored: "
        "below 0.5 the hardest prompts are those that the strong pool fails too, and no order by difficulty can do well.\n\n"
        + _table(
            ("table", "prompts", "APGR", "95 %", *_COMPARED[1:], "known", "CPT50", "CPT80", "AUC"),
            ((name, *_measures(row, number(row["apgr_known"]))) for name, row in sorted(found.items())),
        )
        + "\n\nLead over each baseline on the same resampled questions, 95 %:\n\n"
        + _table(
            ("table", *_COMPARED),
            (
                (name, *(_lead(row["baselines"][other]["behind_ci95"]) for other in _COMPARED))
                for name, row in sorted(found.items())
            ),
        )
        + "\n\n"
        + _verdict(found)
    )


def _verdict(found: Mapping[str, Any]) -> str:
    lines = []
    for other in _COMPARED:
        better = [n for n, row in found.items() if row["baselines"][other]["behind_ci95"][0] > 0]
        worse = [n for n, row in found.items() if row["baselines"][other]["behind_ci95"][1] < 0]
        lines.append(
            f"- against {other}: better beyond the interval on {_names(better)}; worse beyond it on {_names(worse)}."
        )
    return "\n".join(lines)


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _in_domain(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    return (
        "## With labels of one's own traffic\n\nFive folds by question within one table, fitted to its own labels (the "
        "chance that the cheap side is preferred): what `heimdall train` on one's own outcomes gives. A fold is judged by a "
        "model and a calibration that were fitted to the other folds.\n\n"
        + _table(
            ("table", "prompts", "APGR", "95 %", *_COMPARED[1:], "CPT50", "CPT80", "AUC", "calibration error"),
            ((name, *_measures(row), f"{row['ece']:.3f}") for name, row in sorted(found.items())),
        )
    )


def _few_labels(found: Mapping[str, Mapping[str, float]]) -> str:
    if not found:
        return ""
    sizes = sorted({int(size) for row in found.values() for size in row})
    return (
        "## How many own labels beat this bundle\n\nAPGR after fitting to so many labels of the table itself; compare with the "
        "left-out rows above.\n\n"
        + _table(
            ("table", *map(str, sizes)),
            (
                (name, *(f"{row[str(size)]:.3f}" if str(size) in row else "–" for size in sizes))
                for name, row in sorted(found.items())
            ),
        )
    )


def _lead(limits: tuple[float, float]) -> str:
    low, high = limits
    return f"{low:+.3f} to {high:+.3f}".replace("-", "−")


def _measures(row: Mapping[str, Any], *known: str) -> tuple[str, ...]:
    return (
        str(row["n"]),
        number(row["apgr"]),
        interval(row["apgr_ci95"]),
        *(number(row["baselines"][name]["apgr"]) for name in _COMPARED[1:]),
        *known,
        number(row["cpt50"]),
        number(row["cpt80"]),
        number(row["auc"]),
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = tuple(head)
    lines = [columns, tuple("---" for _ in columns), *map(tuple, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_LIMITS = """## What it does not know

- The measured prompts are exam questions in English: multiple choice, school mathematics, competition mathematics, predicting
  what a small Python function returns. Open chat, long documents, agents with tools, images and other languages are covered
  only by the everyday prompts, by judgement. On open chat that was measured afterwards, its order is that of length and
  about as good as chance (docs/training.md, "Benchmarks it was not chosen on").
- On benchmarks left out it ranks by the amount of work in a prompt and little else: the tables above say where that leads
  plain length, and by how much. What outcomes say about words and subjects did not carry over from one benchmark to the
  next and is not in the bundle; labels of one's own traffic bring it back.
- The way of fitting was chosen among variants by looking at these six tables left out, so their figures are somewhat
  flattering, though each fit by itself never saw the table it is judged on. On six others that
  the design was not chosen on it is judged in docs/training.md.
- Where even the strong models fail most of what is hard (competition mathematics: see *known*), sending the hardest prompts to
  a strong model is worse than chance, for this bundle and for any other order by difficulty.
- The cheap pools are models of 2023 and 2024. Today's cheap models answer more; the order of prompts carries over, the
  probabilities do not. Labels of one's own traffic replace both.
- On questions that no model answers, a strong model is money spent for nothing; the classifier does not tell these from
  questions that only a strong model answers."""

_OWN_LIMITS = """## What it does not know

It was fitted to the traffic named above and to nothing else: other kinds of requests get an arbitrary order."""
