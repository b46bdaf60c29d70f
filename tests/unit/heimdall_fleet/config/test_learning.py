"""Shadow pairs and their judge as configured: what cannot work is refused, and dispatch gets what is said."""

from typing import Any

import pytest
from pydantic import ValidationError

from heimdall_fleet.config import Config
from heimdall_fleet.config.learning import PROMPT
from heimdall_fleet.dispatch.settings import JudgeSettings, ShadowSettings
from heimdall_fleet.settings import dispatch_settings, shadow_settings

JUDGE = {"model": "google/gemini-2.5-pro"}


def configured(**learning: Any) -> Config:
    return Config.model_validate({"learning": learning})


def test_nothing_is_shadowed_unless_it_is_said() -> None:
    assert dispatch_settings(configured(), "w").shadow == ShadowSettings(share=0.0, tenants=("*",))


def test_dispatch_is_told_of_share_tenants_budget_and_judge() -> None:
    shadow = {"share": 0.02, "tenants": ["acme"], "budget_usd_per_day": 5}
    found = shadow_settings(configured(shadow=shadow, judge=JUDGE))
    judge = JudgeSettings("google/gemini-2.5-pro", PROMPT, max_tokens=1_000, share=1.0)
    assert found == ShadowSettings(0.02, ("acme",), 5_000_000, judge)


@pytest.mark.parametrize(
    ("learning", "why"),
    [
        ({"shadow": {"share": 0.1}}, "needs budget_usd_per_day"),
        ({"shadow": {"share": 1.1, "budget_usd_per_day": 1}}, "less than or equal to 1"),
        ({"judge": {**JUDGE, "prompt": "Which of {a} and {b} is better?"}}, "lacks {request}"),
        ({"judge": {"model": "gemini"}}, "is not a model id"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(learning: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as refused:
        configured(**learning)
    assert why in str(refused.value)
