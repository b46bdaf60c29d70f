"""`heimdall train` and `heimdall evaluate` on a data set of `heimdall replay`."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heimdall_fleet.bootstrap.learn import champion_of
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.output import note
from heimdall_fleet.cli.pointers import standing_champion
from heimdall_fleet.config import Config
from heimdall_fleet.learn.turn import rules_for
from heimdall_fleet.triage.sources import SourceError
from heimdall_models.bundle import BundleError, load_bundle
from heimdall_models.learning.compare import compare
from heimdall_models.learning.evaluation import evaluation_of
from heimdall_models.learning.logged import DatasetError, Logged, is_dataset, read_logged
from heimdall_models.learning.train import Options, TooLittle, TrainingError, train_logged


def dataset_of(paths: Sequence[Path]) -> Path | None:
    """The replayed data set among `paths`, None if they are outcome tables. Raises CommandError for a mixture."""
    try:
        replayed = [path for path in paths if is_dataset(path)]
    except DatasetError as error:
        raise CommandError(Exit.USAGE, str(error)) from error
    if not replayed:
        return None
    if len(paths) > 1:
        raise CommandError(
            Exit.USAGE, f"{replayed[0]} is a replayed data set: give it alone, without outcome tables or another one"
        )
    return replayed[0]


def train_on(dataset: Path, out: Path, config: Config, given: dict[str, Any]) -> dict[str, Any]:
    """The manifest of the bundle learned from these decisions, beginning with the one that decides.

    Raises CommandError, KafkaFailure.
    """
    created: datetime = given["created"] or datetime.now(UTC)
    fit_text = config.learning.fit_text if given["fit_text"] is None else given["fit_text"]
    options = Options(created.replace(tzinfo=UTC), given["seed"], rules_for(config, created.date()).pools, fit_text)
    promoted = standing_champion(config)
    try:
        with champion_of(config, promoted) as parent:
            note(
                f"beginning with the {'promoted' if promoted else 'configured'} bundle, {load_bundle(parent).hash[:12]}"
            )
            trained = train_logged(_read(dataset), parent, out, options)
    except (DatasetError, TooLittle, TrainingError, BundleError, SourceError) as error:
        raise CommandError(Exit.USAGE, str(error)) from error
    for warning in trained.warnings:
        note(f"note: {warning}")
    return dict(trained.manifest)


def evaluate_on(
    dataset: Path, challenger: Path, config: Config, sides: tuple[tuple[str, ...], tuple[str, ...]]
) -> dict[str, Any]:
    """What `heimdall evaluate` prints of the challenger beside the bundle that decides. Raises CommandError, KafkaFailure.

    That is the promoted champion; the configured bundle where none is. Decided as configured, and judged by the gates of a
    promotion.
    """
    cheap, strong = sides
    rules = replace(rules_for(config, datetime.now(UTC).date()), cheap=cheap, strong=strong)
    promoted = standing_champion(config)
    try:
        with champion_of(config, promoted) as champion:
            note(f"champion: {'the promoted' if promoted else 'the configured'} bundle")
            logged = _read(dataset)
            _refuse_unknown(logged, (*cheap, *strong))
            found = compare(champion, challenger, logged, rules)
            decides = load_bundle(champion).hash
    except (DatasetError, BundleError, SourceError) as error:
        raise CommandError(Exit.USAGE, str(error)) from error
    return {**evaluation_of(found), "champion": decides}


def _refuse_unknown(logged: Logged, named: Sequence[str]) -> None:
    """Raises CommandError for a model that the log does not know."""
    for name in named:
        if name not in logged.models:
            raise CommandError(Exit.USAGE, f"no model {name!r} in these logs; they have {', '.join(logged.models)}")


def _read(dataset: Path) -> Logged:
    logged = read_logged(dataset)
    note(f"{dataset}: {len(logged):,} decisions")
    return logged
