import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heimdall_models.lexicon import WORD_LISTS, pair_class_table, word_class
from heimdall_models.scan import hash_word, scan

GOLDEN = ["3622fd0bb7bb9623", "59cb3d28a2861e80", "02006dcff10ba1a0"]
TEXTS = st.lists(st.text(max_size=60), min_size=1, max_size=6)


@given(TEXTS)
def test_a_texts_words_are_the_same_alone_and_in_a_batch(texts: list[str]) -> None:
    together = scan(texts)
    for row, text in enumerate(texts):
        alone = scan([text])
        mine = together.word_row == row
        np.testing.assert_array_equal(together.word_hash[mine], alone.word_hash)
        assert together.stem_words[row] == alone.stem_words[0]


def test_hashes_are_those_of_every_other_process_and_platform() -> None:
    assert [f"{hash_word(word):016x}" for word in ("a", "theorem", "internationalisation")] == GOLDEN


def test_case_and_digits_are_folded() -> None:
    assert hash_word("Year2024") == hash_word("year1999")


def test_words_of_one_to_forty_letters_have_different_hashes() -> None:
    words = {"".join(chr(97 + (i * j) % 26) for j in range(1, i + 1)) for i in range(1, 41)}
    assert len({hash_word(word) for word in words}) == len(words)


def test_words_before_answer_options_are_counted_apart() -> None:
    assert scan(["Which one is it?\nA. this\nB. that"]).stem_words[0] == 4
    assert scan(["Which one is it?\n(A) this\n(B) that"]).stem_words[0] == 4
    assert scan(["A dog. A. Smith"]).stem_words[0] == 4


def test_every_listed_word_is_found_on_the_first_list_that_names_it() -> None:
    first: dict[str, int] = {}
    for number, words in enumerate(WORD_LISTS.values(), start=1):
        for word in words.split():
            first.setdefault(word, number)
    np.testing.assert_array_equal(word_class(scan([" ".join(first)]).word_hash), list(first.values()))


def test_a_word_on_no_list_is_on_no_list() -> None:
    words = " ".join(f"zq{chr(97 + i)}{chr(97 + j)}x" for i in range(26) for j in range(26))
    assert not word_class(scan([words]).word_hash).any()


def test_the_pair_table_reads_pairs_in_the_order_of_the_text() -> None:
    table = pair_class_table()
    assert table[ord("\\") + 256 * ord("f")] != 0
    assert table[ord("f") + 256 * ord("\\")] == 0
