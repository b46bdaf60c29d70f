"""From outcome tables to labelled rows: whose score counts, and what is explained away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import vstack

from heimdall_models.conversation import Conversation
from heimdall_models.text_model import amounts
from heimdall_models.training.everyday import read_everyday
from heimdall_models.training.fit import Examples, Target, features_of
from heimdall_models.training.questions import question_ids
from heimdall_models.training.tables import OutcomeTable, Pools, default_pools
from heimdall_models.training.workload import fit_workload, slopes_of

Floats = NDArray[np.float64]

WORK_SLOPE = -0.7
"""Log-odds for each e-fold of work: near the median over benchmarks of the slope fitted within each (-0.1 to -3.5), and flat
enough that the everyday prompts can move a short request for a proof to hard."""

_PRIOR_ROWS = 20.0


@dataclass(frozen=True, slots=True)
class Labelled:
    """All usable rows of several tables.

    `examples` (n rows); `source` (n,) index into `tables`; `cheap`, `strong` (n,) mean scores of the pools; `benches`,
    `domains` (n,) names; `conversations` (n).
    """

    tables: tuple[str, ...]
    pools: tuple[Pools, ...]
    examples: Examples
    source: NDArray[np.int64]
    cheap: Floats
    strong: Floats
    benches: NDArray[np.str_]
    domains: NDArray[np.str_]
    conversations: tuple[Conversation, ...]

    def __len__(self) -> int:
        return len(self.cheap)

    def rows(self, keep: NDArray[np.integer[Any]]) -> Labelled:
        """These rows only."""
        return Labelled(
            self.tables,
            self.pools,
            self.examples.rows(keep),
            self.source[keep],
            self.cheap[keep],
            self.strong[keep],
            self.benches[keep],
            self.domains[keep],
            tuple(self.conversations[i] for i in keep),
        )


def labelled(tables: Sequence[OutcomeTable], pools: Mapping[str, Pools], target: Target) -> Labelled:
    """The rows of `tables` in which both pools have a score (default pools: weaker and better half of the models)."""
    chosen = tuple(pools.get(table.name) or default_pools(table) for table in tables)
    cheap = np.concatenate([t.score_of(p.cheap) for t, p in zip(tables, chosen, strict=True)])
    strong = np.concatenate([t.score_of(p.strong) for t, p in zip(tables, chosen, strict=True)])
    conversations = tuple(c for table in tables for c in table.conversations)
    numeric, grams = features_of(conversations)
    questions = question_ids([c.text for c in conversations])
    usable = np.flatnonzero(np.isfinite(cheap) & np.isfinite(strong))
    label = label_of(cheap, strong, target)
    source = np.repeat(np.arange(len(tables)), [len(t) for t in tables])
    noise = np.array([_noise(t, p) for t, p in zip(tables, chosen, strict=True)])[source]
    domain = _domain_numbers(tables)
    examples = Examples(numeric, grams, label, np.zeros(len(label)), questions, domain, noise)
    return Labelled(
        tables=tuple(table.name for table in tables),
        pools=chosen,
        examples=examples,
        source=source,
        cheap=cheap,
        strong=strong,
        benches=np.array([b for t in tables for b in t.benches]),
        domains=np.array([d for t in tables for d in t.domains]),
        conversations=conversations,
    ).rows(usable)


def label_of(cheap: Floats, strong: Floats, target: Target) -> Floats:
    """`cheap_ok`: the cheap pool's score. `gain`: chance that the cheap pool is preferred, (1 + cheap − strong) / 2."""
    return cheap if target == "cheap_ok" else (1.0 + cheap - strong) / 2.0


def _domain_numbers(tables: Sequence[OutcomeTable]) -> NDArray[np.int64]:
    """(n,) one number for each domain of each table."""
    names = [f"{number}/{domain}" for number, table in enumerate(tables) for domain in table.domains]
    return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)


def _noise(table: OutcomeTable, pools: Pools) -> float:
    """How far a row's label is taken for noise: 1/2 when it is what two models scored, little when it is a mean of many.

    0 for a table of one domain: its mean tells no prompt from another.
    """
    return 1.0 / len({*pools.cheap, *pools.strong}) if len(set(table.domains)) > 1 else 0.0


def training_rows(rows: Labelled, transfer: bool) -> Examples:
    """What the classifier is fitted to: for transfer, the work in each prompt (`workload.py`) and the everyday prompts.

    The label of a table's prompt is then what its work and its domain's mean say: text model and trees have nothing to
    learn from it but to stay at zero on prompts like it. Each domain's mean is explained away.
    """
    examples = rows.examples
    if not transfer:
        return examples
    domain = np.char.add(np.char.add(rows.benches, "/"), rows.domains)
    offset = domain_offset(examples.label, domain)
    slopes = slopes_of(fit_workload(examples.numeric, examples.label, rows.source, domain), WORK_SLOPE)
    everyday = read_everyday()
    numeric, grams = features_of(everyday.conversations)
    copy = np.repeat(np.arange(len(everyday.label)), everyday.copies)
    return Examples(
        numeric=np.concatenate((examples.numeric, numeric[copy])),
        grams=vstack((examples.grams, grams[copy]), format="csr"),
        label=np.concatenate((_expected(examples, offset, slopes), everyday.label[copy])),
        offset=np.concatenate((offset, np.zeros(len(copy)))),
        question=np.concatenate((examples.question, copy + examples.question.max(initial=-1) + 1)),
        domain=np.concatenate((examples.domain, np.zeros(len(copy), np.int64))),
        noise=np.zeros(len(examples) + len(copy)),
        slopes=slopes,
    )


def _expected(examples: Examples, offset: Floats, slopes: tuple[tuple[int, float], ...]) -> Floats:
    """(n,) chance of a good answer by work and domain alone, around the labels' mean."""
    work = amounts(examples.numeric, slopes)
    mean = float(np.clip(examples.label.mean(), 0.02, 0.98))
    return np.asarray(1 / (1 + np.exp(-(offset + work - work.mean() + np.log(mean / (1 - mean))))))


def domain_offset(label: Floats, domain: NDArray[np.str_]) -> Floats:
    """(n,) log-odds of the mean label of each row's domain, shrunk towards all rows' mean, centred on 0."""
    _, group = np.unique(domain, return_inverse=True)
    count = np.bincount(group)
    mean = (np.bincount(group, label) + _PRIOR_ROWS * label.mean()) / (count + _PRIOR_ROWS)
    mean = np.clip(mean, 0.02, 0.98)
    log_odds = np.log(mean / (1 - mean))[group]
    return np.asarray(log_odds - log_odds.mean())
