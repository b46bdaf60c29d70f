"""What the scripted providers do in the demo."""

from typing import Any

OUTAGE = (0.4, 0.65)
"""Share of the run during which the busiest provider answers nothing but 503."""


def demo_plan(seed: int, duration_s: float) -> dict[str, Any]:
    """Latencies as such models have them, 429s with Retry-After everywhere, and one provider down in the middle.

    Seconds count from the start of the stack; `LEAD_S` is what it takes to be ready.
    """
    outage = {
        "start_s": LEAD_S + OUTAGE[0] * duration_s,
        "end_s": LEAD_S + OUTAGE[1] * duration_s,
        "status": 503,
    }
    limited = {"errors": {"429": 0.04}, "retry_after_s": 1}
    return {
        "seed": seed,
        "behaviours": {
            "*": {**_pace(350, 0.5, 150), **limited},
            "google": {**_pace(300, 0.4, 180), **limited, "outages": [outage]},
            "openai": {**_pace(450, 0.5, 220), "errors": {"429": 0.05, "500": 0.02}, "retry_after_s": 1},
            "anthropic": {**_pace(550, 0.5, 240), **limited},
            "deepseek": {**_pace(700, 0.6, 260), **limited},
        },
    }


LEAD_S = 4.0


def _pace(latency_ms: float, sigma: float, output_tokens: float) -> dict[str, Any]:
    return {
        "latency_ms": {"median": latency_ms, "sigma": sigma},
        "output_tokens": {"median": output_tokens, "sigma": 0.7},
        "tokens_per_s": 400,
    }
