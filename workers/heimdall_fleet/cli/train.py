"""`heimdall train` and `heimdall evaluate`: outcome tables to a bundle, and how good a bundle is on them."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from heimdall_fleet.cli.common import configuration, needs_training_extra
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note, pretty
from heimdall_fleet.cli.verdict import verdict_of
from heimdall_fleet.config import Config
from heimdall_fleet.settings import bundle_directory
from heimdall_models.bundle import QUALITY, BundleError, load_bundle
from heimdall_models.embed import EmbedderError, load_embedder
from heimdall_models.quality import QualityError

if TYPE_CHECKING:
    from heimdall_models.training.build import Plan

SHIPPED_RECIPE = "default"

DATA = click.option(
    "--data", "paths", type=click.Path(exists=True, path_type=Path), multiple=True, required=True,
    help="Outcome tables (Parquet or JSON lines) or folders of them, several times; or one data set of `heimdall replay`.",
)  # fmt: skip
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@DATA
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory of the bundle.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--created", type=click.DateTime(), help="UTC, for the manifest; give it for a reproducible bundle.")
@click.option(
    "--traffic", type=click.Choice(["own", "unseen"]), default="own", show_default=True,
    help="own: what will be served is like the tables; unseen: the tables only stand in for it.",
)  # fmt: skip
@click.option(
    "--recipe", metavar="FILE", help="Traffic, seed, pools and sources as JSON; `default` made the shipped one."
)
@click.option("--quality", type=FILE, help="Quality table to ship. Default: that of the bundle in use.")
@click.option(
    "--fit-text/--no-fit-text", default=None,
    help="Replayed data: fit the text model to the texts that tenants let be kept. Default: learning.fit_text.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="Skip the measurements; the model card says so.")
@click.pass_obj
def train(options: Globals, /, paths: tuple[Path, ...], out: Path, **given: Any) -> None:
    """Fit, calibrate and export a classifier, and write it as a bundle with its model card.

    From outcome tables, or from decisions that `heimdall replay` read out of the audit: these begin with the bundle that
    decides (the promoted champion, else the configured one), and --traffic, --recipe, --quality and --quick mean nothing to
    them. The same data, seed and --created give the same bytes.

    \b
    Example:
      heimdall train --data outcomes/ --out bundles/mine
      heimdall train --data data/audit --out bundles/learned
      heimdall train --data data/audit --out bundles/learned --fit-text
    """
    manifest = _train(paths, out, configuration(options).config, given)
    rows = manifest["training_data"]["rows"]
    metrics = manifest.get("metrics", {})
    if options.output == "json":
        data({"bundle": str(out), "rows": rows, "metrics": metrics, "parent": manifest.get("parent")})
    else:
        pretty(metrics)
    note(f"{out}: trained on {rows:,} rows; {out / 'MODEL_CARD.md'} says how good it is and where it knows nothing")


@needs_training_extra
def _train(paths: tuple[Path, ...], out: Path, config: Config, given: dict[str, Any]) -> dict[str, Any]:
    from heimdall_fleet.cli.train_logged import dataset_of, train_on
    from heimdall_models.training.build import TrainingError, build
    from heimdall_models.training.tables import TableError

    dataset = dataset_of(paths)
    if dataset is not None:
        return train_on(dataset, out, config, given)
    if given["fit_text"] is not None:
        raise CommandError(
            Exit.USAGE, "--fit-text is for data of `heimdall replay`: outcome tables always fit the text; leave it out"
        )
    try:
        return build(paths, out, _plan(config, given), say=note)
    except (TableError, TrainingError, BundleError, QualityError, EmbedderError) as error:
        raise CommandError(Exit.USAGE, str(error)) from error
    except OSError as error:
        raise CommandError(Exit.USAGE, f"the bundle cannot be written to {out}: {error}") from error


def _plan(config: Config, given: dict[str, Any]) -> "Plan":
    from heimdall_models.training.build import Plan, read_plan

    traffic: Literal["own", "unseen"] = "unseen" if given["traffic"] == "unseen" else "own"
    created: datetime = given["created"] or datetime.now(UTC)
    parent, plugin = bundle_directory(config), config.embedding.plugin
    in_use = parent / QUALITY
    plan = Plan(
        created=created.replace(tzinfo=UTC),
        seed=given["seed"],
        traffic=traffic,
        quick=given["quick"],
        parent=parent,
        quality=given["quality"] or (in_use if in_use.exists() else None),
        embedder=None if plugin is None else load_embedder(plugin),
    )
    if given["recipe"] is None:
        return plan
    # A recipe makes the same bundle wherever it is followed, so the bundle in use is not its parent.
    anywhere = replace(plan, parent=None, embedder=None)
    return read_plan(None if given["recipe"] == SHIPPED_RECIPE else Path(given["recipe"]), anywhere)


@click.command()
@DATA
@click.option(
    "--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Default: the configured."
)
@click.option(
    "--cheap",
    multiple=True,
    metavar="MODEL",
    help="A model of the cheap side, as in the column s::MODEL. Given several times: the mean of these.",
)
@click.option("--strong", multiple=True, metavar="MODEL", help="A model of the strong side, likewise.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write a report with plots.")
@click.pass_obj
def evaluate(
    options: Globals, paths: tuple[Path, ...], bundle: Path | None, cheap: tuple[str, ...], strong: tuple[str, ...],
    html: Path | None,
) -> None:  # fmt: skip
    """APGR with its 95 % interval, CPT(50 %), CPT(80 %), AUC, calibration, and baselines on the same rows.

    A summary; -o json prints all the numbers, those of the curves too.

    On decisions that `heimdall replay` read, BUNDLE is the challenger of the one that decides (the promoted champion, else
    the configured one): off-policy estimates with intervals, and a refusal to conclude where the logs cannot tell.

    \b
    Example:
      heimdall evaluate --bundle bundles/learned --data data/audit --html report.html
      heimdall evaluate --data outcomes/ --cheap mixtral-8x7b --strong gpt-4-1106 --html report.html
    """
    path = bundle or bundle_directory(configuration(options).config)
    found = _evaluate(paths, path, (cheap, strong), html, options)
    if found.get("seen_in_training"):
        seen = ", ".join(found["seen_in_training"])
        note(f"the bundle was trained on {seen}: these figures flatter it; those under `recorded` do not")
    if failed := found.get("classifier_failed"):
        note(f"the classifier gave no number for {failed:,} prompts: they count as of middling difficulty")
    if options.output == "json":
        data(found)
    else:
        print(_in_words(found))


@needs_training_extra
def _in_words(found: dict[str, Any]) -> str:
    from heimdall_models.training.summary import summary

    return "\n".join(verdict_of(found)) if "gates" in found else summary(found)


@needs_training_extra
def _evaluate(
    paths: tuple[Path, ...],
    bundle: Path,
    sides: tuple[tuple[str, ...], tuple[str, ...]],
    html: Path | None,
    options: Globals,
) -> dict[str, Any]:
    from heimdall_fleet.cli.train_logged import dataset_of, evaluate_on
    from heimdall_models.learning.report import comparison_html
    from heimdall_models.training.evaluate import evaluate_bundle
    from heimdall_models.training.report import report_html
    from heimdall_models.training.tables import TableError, read_tables

    if html and not html.parent.is_dir():  # looked at first: what follows may take minutes
        raise CommandError(Exit.USAGE, f"--html: there is no directory {html.parent}; make it first")
    dataset = dataset_of(paths)
    try:
        if dataset is not None:
            found = evaluate_on(dataset, bundle, configuration(options).config, sides)
        else:
            found = evaluate_bundle(load_bundle(bundle), read_tables(paths), *sides)
    except (TableError, BundleError) as error:
        raise CommandError(Exit.USAGE, str(error)) from error
    if html:
        written = report_html(found) if dataset is None else comparison_html(found)
        try:
            html.write_text(written, encoding="utf-8")
        except OSError as error:
            raise CommandError(Exit.USAGE, f"--html: {html} cannot be written: {error.strerror}") from error
        note(f"report: {html}")
    return found
