"""Settings of rollouts that are refused, each by its field and value."""

from typing import Any

import pytest
from pydantic import ValidationError

from engine.rollouts import Guardrails, read_settings
from resolvers.inputs import NewLeaderboard, NewShadow, Promotion, RolloutSettings, invalid_input


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": [0.5, 0.1, 1]}, "steps must ascend (got [0.5, 0.1, 1.0])"),
        ({"steps": [0.1, 0.1, 1]}, "steps must ascend"),
        ({"steps": [0.1, 0.5]}, "steps must end with 1 (got 0.5)"),
        ({"steps": [1]}, "steps: "),
        ({"steps": [0, 1]}, "steps.0: "),
        ({"steps": [0.5, 1.5]}, "steps.1: "),
        ({"sticky_by": "session"}, "sticky_by: "),
        ({"min_requests_per_step": 0}, "min_requests_per_step: "),
        ({"min_minutes_per_step": -1}, "min_minutes_per_step: "),
        ({"confidence": 0.5}, "confidence: "),
        ({"max_judge_cost_usd": -1}, "max_judge_cost_usd: "),
        ({"guardrails": {"max_latency_ratio": 0}}, "guardrails.max_latency_ratio: "),
        ({"guardrails": {"min_score_difference": 0.1}}, "guardrails.min_score_difference: "),
        ({"guardrails": {"judge_share": 0}}, "guardrails.judge_share: "),
        ({"guardrails": {"max_error_rate_increase": "nan"}}, "guardrails.max_error_rate_incr"),
        ({"guardrails": {"colour": "red"}}, "guardrails.colour: unknown field"),
    ],
)
def test_settings_that_are_none_are_refused_by_their_field(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        RolloutSettings.model_validate(settings)
    assert said in str(invalid_input(raised.value.errors(include_url=False)))


def test_a_guardrail_that_is_taken_away_stays_away() -> None:
    given = RolloutSettings.model_validate(
        {"guardrails": {"maxLatencyRatio": None, "minScoreDifference": -0.1}}
    )
    assert read_settings(given.stored()).guardrails == Guardrails(
        max_error_rate_increase=0.02,
        max_latency_ratio=None,
        max_cost_ratio=2.0,
        min_score_difference=-0.1,
        judge_share=0.05,
    )


def test_scores_are_guarded_only_where_somebody_judges() -> None:
    guarded = Promotion.model_validate({"rollout": {"guardrails": {"min_score_difference": -0.1}}})
    with pytest.raises(ValidationError, match="min_score_difference goes with eval_type judge"):
        NewLeaderboard(name="n", system_prompt="{input}", dataset_type="PUSH", promotion=guarded)
    judged = NewLeaderboard(
        name="n",
        system_prompt="{input}",
        dataset_type="PUSH",
        eval_type="judge",
        judge_auto=True,
        promotion=guarded,
    )
    assert judged.promotion == guarded


def test_a_shadow_ends_in_the_future() -> None:
    with pytest.raises(ValidationError, match="ends_at must be in the future"):
        NewShadow.model_validate(
            {
                "challenger_id": "00000000-0000-0000-0000-000000000001",
                "budget_usd": 1,
                "ends_at": "2020-01-01T00:00:00Z",
            }
        )
