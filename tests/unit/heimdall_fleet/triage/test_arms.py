"""The bundles of an experiment's arms are looked at like the one that serves, and a bad one changes nothing."""

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from heimdall_fleet.triage.arms import ArmBundles
from heimdall_fleet.triage.download import DownloadError
from heimdall_fleet.triage.sources import Archives, Directory, SourceError
from heimdall_fleet.triage.tuning import MakeJudge, Tuning
from heimdall_models.bundle import ONNX, Bundle, load_bundle
from heimdall_models.catalogue import load_catalogue
from heimdall_models.experiment import Arm, Experiment
from heimdall_models.judge import Judge, make_judge
from heimdall_models.rules import Rules

BundleCopy = Callable[[int], Path]
URL = "bundles/of-the-arm"


def nothing(url: str, limit_bytes: int) -> bytes:
    raise DownloadError(f"{url} is not there")


def maker(arms: ArmBundles) -> MakeJudge:
    catalogue = load_catalogue(dt.date(2026, 11, 21))
    rules = Rules(
        served={model: facts.author for model, facts in catalogue.models.items()},
        config_hash="test",
        experiment=Experiment("thrift", (Arm("other-bundle", 0.5, bundle=URL),)),
    )

    def make(bundle: Bundle) -> Judge:
        return make_judge(bundle, catalogue, rules, bundles=arms.bundles)

    return make


def replace_with(place: Path, by: Path) -> None:
    shutil.rmtree(place)
    shutil.copytree(by, place)


@pytest.fixture
def place(bundle_copy: BundleCopy) -> Path:
    return bundle_copy(2)


@pytest.fixture
def tuning(bundle_copy: BundleCopy, place: Path) -> Tuning:
    arms = ArmBundles({URL: Directory(place)})
    return Tuning(Directory(bundle_copy(1)), Archives(None, nothing), maker(arms), arms)


def served(tuning: Tuning) -> str:
    return tuning.judge.arms["other-bundle"].bundle.hash


async def test_another_bundle_of_an_arm_is_taken_up_by_the_next_look(
    tuning: Tuning, place: Path, bundle_copy: BundleCopy
) -> None:
    champion = tuning.judge.bundle.hash
    assert await tuning.poll() is None
    replace_with(place, bundle_copy(3))
    assert await tuning.poll() is True
    assert served(tuning) == load_bundle(place).hash == tuning.arm_bundles[URL]
    assert tuning.judge.bundle.hash == champion


async def test_a_truncated_bundle_of_an_arm_changes_nothing_and_is_told_once(
    tuning: Tuning, place: Path, bundle_copy: BundleCopy
) -> None:
    judge, before = tuning.judge, served(tuning)
    replace_with(place, bundle_copy(3))
    (place / ONNX).write_bytes((place / ONNX).read_bytes()[:1000])
    assert [await tuning.poll() for _ in range(3)] == [False, None, None]
    assert tuning.judge is judge
    assert "hash differs" in str(tuning.arms_refused)
    replace_with(place, bundle_copy(4))
    assert await tuning.poll() is True
    assert served(tuning) != before
    assert tuning.arms_refused is None


async def test_new_rules_bring_their_own_arms(tuning: Tuning, bundle_copy: BundleCopy) -> None:
    arms = ArmBundles({URL: Directory(bundle_copy(5))})
    tuning.remake(maker(arms), Directory(bundle_copy(1)), arms)
    assert served(tuning) == load_bundle(bundle_copy(5)).hash
    assert await tuning.poll() is None


def test_an_arm_whose_bundle_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no bundle"):
        ArmBundles({URL: Directory(tmp_path / "nowhere")})
