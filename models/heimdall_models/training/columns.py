"""Which features the trees of a classifier for unseen benchmarks may use, and which of them may only make a prompt harder."""

from __future__ import annotations

HARDER_ONLY = frozenset({"hard_tasks_words_log"})

TRANSFER = HARDER_ONLY | {"options"}
"""Words such as "prove" and "design", where no answers are offered to choose from. Hardly an exam question is meant, so what
the trees learn of everyday prompts leaves the order of these alone."""
