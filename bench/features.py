"""What a decision costs: CPU microseconds a message in full batches, stage by stage.

    python bench/features.py -o json

`us_600`, `us_4k` and `us_20k` are features, text model and classifier together. `decision` is all of `decide`, from the body
to both records, with nothing in the cache and nothing kept; `cached` is the same of conversations that were decided before.
`decisions_per_s_600` is what one core decides in a second, Kafka left out.
Prompts rotate, since a fixed one trains the branch predictor; each figure is the least of several rounds, since other
processes only ever add.
"""

import argparse
import datetime as dt
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from heimdall_fleet.system.threads import pin_threads

pin_threads()  # before numpy is imported

import orjson  # noqa: E402

from heimdall_fleet.system.heap import settle_heap  # noqa: E402
from heimdall_fleet.system.huge_pages import use_huge_pages  # noqa: E402
from heimdall_models.asked import DecisionInput  # noqa: E402
from heimdall_models.bundle import Bundle, load_bundle  # noqa: E402
from heimdall_models.cache import Memory  # noqa: E402
from heimdall_models.catalogue import load_catalogue  # noqa: E402
from heimdall_models.conversation import read_conversation  # noqa: E402
from heimdall_models.decide import decide  # noqa: E402
from heimdall_models.embed import embed, nearest_clusters  # noqa: E402
from heimdall_models.features import MAX_BATCH, extract  # noqa: E402
from heimdall_models.judge import Judge, make_judge  # noqa: E402
from heimdall_models.recall import FEWER_ABOVE  # noqa: E402
from heimdall_models.rules import Rules  # noqa: E402
from heimdall_models.shipped import shipped  # noqa: E402
from heimdall_models.training.everyday import read_everyday  # noqa: E402
from heimdall_schemas.request import NO_OPTIONS  # noqa: E402

SIZES = {"600": 600, "4k": 4_000, "20k": 20_000}
BATCHES, ROUNDS, TOP_P = 8, 12, 5


def batches(size_bytes: int) -> list[list[dict[str, Any]]]:
    """Bodies of about so many bytes, all different, of sentences that people write; as many together as triage takes."""
    rng = random.Random(size_bytes)
    texts = [conversation.text for conversation in read_everyday().conversations]
    return [[_body(rng, texts, size_bytes) for _ in range(_together(size_bytes))] for _ in range(BATCHES)]


def _together(size_bytes: int) -> int:
    """As many as `recall.unanswered` puts together."""
    rows = MAX_BATCH
    for most_bytes, fewer in FEWER_ABOVE:
        if rows * size_bytes > most_bytes:
            rows = fewer
    return rows


def _body(rng: random.Random, texts: list[str], size_bytes: int) -> dict[str, Any]:
    text = ""
    while len(text) < size_bytes:
        text += rng.choice(texts) + " "
    return {"messages": [{"role": "user", "content": text[:size_bytes]}]}


def cost_us(work: Callable[[int], object], messages: int) -> float:
    """CPU microseconds a message of `work` on each batch in turn, `messages` in all."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for number in range(BATCHES):
            work(number)
        rounds.append((time.process_time() - started) / messages * 1e6)
    return min(rounds)


def stage_costs(bundle: Bundle, bodies: list[list[dict[str, Any]]]) -> dict[str, float]:
    """Each stage by itself, on what the stage before it made."""
    read = [[read_conversation(body) for body in batch] for batch in bodies]
    features = [extract(batch, bundle.text_model) for batch in read]
    vectors = [embed(batch.scan) for batch in features]
    stages: dict[str, Callable[[int], object]] = {
        "read": lambda i: [read_conversation(body) for body in bodies[i]],
        "features": lambda i: extract(read[i], bundle.text_model),
        "classifier": lambda i: bundle.classifier.predict(features[i].numeric),
        "embedding": lambda i: embed(features[i].scan, features[i].on_list),
        "clusters": lambda i: nearest_clusters(vectors[i], bundle.clusters.centres, TOP_P),
    }
    return {name: cost_us(work, sum(map(len, bodies))) for name, work in stages.items()}


def judge_of(bundle: Bundle) -> Judge:
    """The default rules, every model of the catalogue served."""
    catalogue = load_catalogue(dt.datetime.now(dt.UTC).date())
    return make_judge(bundle, catalogue, Rules(served={name: facts.author for name, facts in catalogue.models.items()}))


def decision_costs(judge: Judge, bodies: list[list[dict[str, Any]]]) -> dict[str, float]:
    """The whole decision, made and remembered."""
    asked = [
        [DecisionInput(f"{number}-{row}", NO_OPTIONS, body) for row, body in enumerate(batch)]
        for number, batch in enumerate(bodies)
    ]
    nothing, everything = Memory(decisions=None), Memory()
    for batch in asked:
        decide(batch, judge, everything, time.perf_counter)
    messages = sum(map(len, bodies))
    return {
        "decision": cost_us(lambda i: decide(asked[i], judge, nothing, time.perf_counter), messages),
        "cached": cost_us(lambda i: decide(asked[i], judge, everything, time.perf_counter), messages),
    }


def measured() -> dict[str, float]:
    """`STAGE_us_SIZE` and `us_SIZE` → microseconds."""
    bundle = load_bundle(shipped("bundles/default"))
    judge = judge_of(bundle)
    settle_heap()  # as every worker does when it has started
    found: dict[str, float] = {}
    for name, size in SIZES.items():
        bodies = batches(size)
        use_huge_pages()  # as every worker does when it has grown
        costs = stage_costs(bundle, bodies) | decision_costs(judge, bodies)
        found |= {f"{stage}_us_{name}": round(cost, 2) for stage, cost in costs.items()}
        found[f"us_{name}"] = round(costs["features"] + costs["classifier"], 2)
    return found | {"decisions_per_s_600": round(1e6 / found["decision_us_600"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", choices=["json", "text"], default="text")
    output = parser.parse_args().output
    found = measured()
    if output == "json":
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        sys.stdout.writelines(f"{name:22} {value:8.2f}\n" for name, value in found.items())


if __name__ == "__main__":
    main()
