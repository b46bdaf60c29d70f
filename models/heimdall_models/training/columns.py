"""Which features the trees of a classifier for unseen benchmarks may use, and which of them may only make a prompt harder."""

from __future__ import annotations

from heimdall_models.lexicon import WORD_LISTS

EITHER_WAY_LISTS = ("easy_tasks", "chat", "creative", "output_format", "what_who_when", "humanities")

TRANSFER = frozenset(f"{name}_words_log" for name in WORD_LISTS)
HARDER_ONLY = TRANSFER - {f"{name}_words_log" for name in EITHER_WAY_LISTS}
