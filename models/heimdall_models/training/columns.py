"""Which features the trees of a classifier for unseen benchmarks may use; all of them may only make a prompt harder."""

from __future__ import annotations

TRANSFER = frozenset({"hard_tasks_words_log", "code_words_log"})
"""Exam questions hardly have these words: what the trees learn of everyday prompts leaves the order of exam questions alone."""
