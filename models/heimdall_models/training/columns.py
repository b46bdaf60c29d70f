"""Which features a classifier for unseen benchmarks may use, and which of them may only make a prompt harder."""

from __future__ import annotations

from heimdall_models.features import FEATURE_NAMES
from heimdall_models.lexicon import WORD_LISTS

AMOUNTS = (
    "ask_chars_log",
    "token_count_log",
    "bytes_log",
    "words_log",
    "stem_words_log",
    "distinct_words_log",
    "number_words_log",
    "letters_log",
    "spaces_log",
    "newlines_log",
    "digits_log",
    "punctuation_log",
    "commas_log",
    "periods_log",
    "colons_log",
    "semicolons_log",
    "quotes_log",
    "parens_log",
    "braces_log",
    "equals_log",
    "carets_log",
    "backslashes_log",
    "underscores_log",
    "sentence_ends_log",
    "latex_commands_log",
    "math_symbols_log",
    "indents_log",
    "calls_log",
    "code_operators_log",
    "number_operators_log",
    "spaced_operators_log",
    "decimals_log",
)
"""How much there is of something that takes work; counts, not shares, since shares mean opposite things in two formats."""

EITHER_WAY_LISTS = ("easy_tasks", "chat", "creative", "output_format", "what_who_when", "humanities")

_LISTS = tuple(f"{name}_words_log" for name in WORD_LISTS)
TRANSFER = frozenset((*AMOUNTS, *_LISTS, "non_ascii_share"))
HARDER_ONLY = frozenset((*AMOUNTS, *_LISTS)) - {f"{name}_words_log" for name in EITHER_WAY_LISTS}

if unknown := TRANSFER - set(FEATURE_NAMES):
    raise AssertionError(f"not features: {sorted(unknown)}")
