"""The simulated models: who they are, what they cost, how good and how quick each one is."""

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

_PARAMETERS = (
    *("max_tokens", "temperature", "top_p", "seed"),
    *("tools", "tool_choice", "response_format", "structured_outputs"),
)

CREATED_AT_UNIX_S = 1_767_225_600
"""The catalogue's `created` of every simulated model: 2026-01-01T00:00:00Z."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedModel:
    """One simulated model.

    `accuracy` is the share of task questions it answers right, `accuracy_by_kind`
    the kinds where it differs, `latency_spread` the sigma of its log-normal
    latency, and `wordiness` the number of sentences before the answer line.
    """

    name: str
    title: str
    character: str
    context_tokens: int
    max_completion_tokens: int
    prompt_price_usd: Decimal
    completion_price_usd: Decimal
    accuracy: float
    accuracy_by_kind: dict[str, float] = field(default_factory=dict)
    latency_median_ms: float
    latency_spread: float
    wordiness: int

    @property
    def id(self) -> str:
        """The id that the catalogue lists and chat completions take."""
        return f"sandbox/{self.name}"

    def accuracy_on(self, kind: str) -> float:
        """Return the probability, 0 to 1, of a right answer to a task of this kind."""
        return self.accuracy_by_kind.get(kind, self.accuracy)


MODELS: dict[str, SimulatedModel] = {
    model.name: model
    for model in (
        SimulatedModel(
            name="careful-large",
            title="Careful Large",
            character="Slow, expensive and usually right.",
            context_tokens=200_000,
            max_completion_tokens=8192,
            prompt_price_usd=Decimal("0.000003"),
            completion_price_usd=Decimal("0.000015"),
            accuracy=0.92,
            accuracy_by_kind={"strings": 0.84, "extraction": 0.98},
            latency_median_ms=70,
            latency_spread=0.35,
            wordiness=3,
        ),
        SimulatedModel(
            name="balanced-medium",
            title="Balanced Medium",
            character="Good answers at a middling price.",
            context_tokens=128_000,
            max_completion_tokens=8192,
            prompt_price_usd=Decimal("0.0000008"),
            completion_price_usd=Decimal("0.000004"),
            accuracy=0.84,
            accuracy_by_kind={"dates": 0.74, "extraction": 0.95},
            latency_median_ms=40,
            latency_spread=0.30,
            wordiness=2,
        ),
        SimulatedModel(
            name="steady-medium",
            title="Steady Medium",
            character="About as good as Balanced Medium, for less money.",
            context_tokens=128_000,
            max_completion_tokens=4096,
            prompt_price_usd=Decimal("0.0000004"),
            completion_price_usd=Decimal("0.0000016"),
            accuracy=0.83,
            latency_median_ms=45,
            latency_spread=0.15,
            wordiness=1,
        ),
        SimulatedModel(
            name="rambling-medium",
            title="Rambling Medium",
            character="Gets there in the end, in many words.",
            context_tokens=64_000,
            max_completion_tokens=4096,
            prompt_price_usd=Decimal("0.0000005"),
            completion_price_usd=Decimal("0.0000015"),
            accuracy=0.77,
            accuracy_by_kind={"choice": 0.86, "json": 0.62},
            latency_median_ms=85,
            latency_spread=0.45,
            wordiness=9,
        ),
        SimulatedModel(
            name="quick-small",
            title="Quick Small",
            character="Cheap and fast, weak at several steps in a row.",
            context_tokens=32_000,
            max_completion_tokens=4096,
            prompt_price_usd=Decimal("0.0000001"),
            completion_price_usd=Decimal("0.0000004"),
            accuracy=0.71,
            accuracy_by_kind={"arithmetic": 0.60, "extraction": 0.88},
            latency_median_ms=15,
            latency_spread=0.25,
            wordiness=0,
        ),
        SimulatedModel(
            name="erratic-mini",
            title="Erratic Mini",
            character="The cheapest, and it shows.",
            context_tokens=16_000,
            max_completion_tokens=2048,
            prompt_price_usd=Decimal("0.00000005"),
            completion_price_usd=Decimal("0.0000002"),
            accuracy=0.52,
            latency_median_ms=25,
            latency_spread=0.80,
            wordiness=1,
        ),
    )
}
"""Every simulated model by its name, which is its id without `sandbox/`."""

BALANCED = MODELS["balanced-medium"]
"""The model behind every fault and shape that has to answer something."""

FAIR_JUDGE = SimulatedModel(
    name="fair-judge",
    title="Fair Judge",
    character="Judges answers to the sandbox's tasks, and believes what it is told.",
    context_tokens=200_000,
    max_completion_tokens=4096,
    prompt_price_usd=Decimal("0.000001"),
    completion_price_usd=Decimal("0.000005"),
    accuracy=0.9,
    latency_median_ms=50,
    latency_spread=0.30,
    wordiness=0,
)
MUMBLING_JUDGE = replace(
    FAIR_JUDGE,
    name="mumbling-judge",
    title="Mumbling Judge",
    character="As Fair Judge, but some prompts have to be put to it twice.",
)
BROKEN_JUDGE = replace(
    FAIR_JUDGE,
    name="broken-judge",
    title="Broken Judge",
    character="Never comes to a verdict that can be read.",
)

JUDGES: dict[str, SimulatedModel] = {
    judge.name: judge for judge in (FAIR_JUDGE, MUMBLING_JUDGE, BROKEN_JUDGE)
}
"""Every simulated judge by its name, which is its id without `sandbox/`.

Asked anything but to judge, each answers like any other model.
"""

LABELLER = SimulatedModel(
    name="labeller",
    title="Labeller",
    character="Labels rows that hold the sandbox's tasks, and is right about most of them.",
    context_tokens=200_000,
    max_completion_tokens=4096,
    prompt_price_usd=Decimal("0.0000005"),
    completion_price_usd=Decimal("0.000002"),
    accuracy=0.95,
    latency_median_ms=45,
    latency_spread=0.30,
    wordiness=0,
)
"""The simulated labeller. Asked anything but to label, it answers like any other model."""


def list_catalogue() -> list[dict[str, Any]]:
    """List the models in the shape of OpenRouter's catalogue, prices in USD per token.

    Source: https://openrouter.ai/docs/models (model object schema).
    """
    return [_catalogue_entry(model) for model in (*MODELS.values(), FAIR_JUDGE, LABELLER)]


def _catalogue_entry(model: SimulatedModel) -> dict[str, Any]:
    return {
        "id": model.id,
        "canonical_slug": model.id,
        "name": f"Sandbox: {model.title} (simulated)",
        "created": CREATED_AT_UNIX_S,
        "description": (
            f"{model.character} This is a simulation for offline use, not a language model: it"
            " recognises the sandbox's own task questions and small sums, and answers by a fixed"
            " rule."
        ),
        "context_length": model.context_tokens,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {
            "prompt": f"{model.prompt_price_usd:f}",
            "completion": f"{model.completion_price_usd:f}",
            "request": "0",
            "image": "0",
        },
        "top_provider": {
            "context_length": model.context_tokens,
            "max_completion_tokens": model.max_completion_tokens,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": list(_PARAMETERS),
    }
