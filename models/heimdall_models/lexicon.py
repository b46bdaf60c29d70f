"""What the features look for: classes of bytes, of byte pairs and of words.

Each name here becomes a feature; the tables are made once, on first use.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from heimdall_models.scan import scan

_LETTERS = bytes(range(ord("A"), ord("Z") + 1)) + bytes(range(ord("a"), ord("z") + 1))
_UPPER = bytes(range(ord("A"), ord("Z") + 1))
_DIGITS = b"0123456789"
_LINE_START = b"\n\0"
_OPERATORS = b"+-*/%<>=!&|^~"

BYTE_CLASSES: dict[str, bytes] = {
    "letters": _LETTERS,
    "upper": _UPPER,
    "digits": _DIGITS,
    "spaces": b" \t\r\n",
    "newlines": b"\n",
    "control": bytes(c for c in range(1, 32) if c not in b"\t\r\n") + b"\x7f",
    "punctuation": bytes(c for c in range(33, 127) if not chr(c).isalnum()),
    "periods": b".",
    "commas": b",",
    "questions": b"?",
    "exclamations": b"!",
    "colons": b":",
    "semicolons": b";",
    "quotes": b"\"'",
    "parens": b"()",
    "brackets": b"[]",
    "braces": b"{}",
    "angles": b"<>",
    "equals": b"=",
    "plus_star": b"+*",
    "slashes": b"/",
    "backslashes": b"\\",
    "carets": b"^",
    "underscores": b"_",
    "dollars": b"$",
    "percents": b"%",
    "hashes": b"#",
    "backticks": b"`",
    "pipes_ampersands": b"|&",
    # A UTF-8 text has one lead byte for each non-ASCII character, and lead bytes tell the script apart.
    "non_ascii": bytes(range(0xC2, 0xF5)),
    "latin_accents": b"\xc2\xc3\xc4\xc5",
    "greek": b"\xcd\xce\xcf",
    "cyrillic": b"\xd0\xd1\xd2\xd3",
    "hebrew_arabic": bytes(range(0xD6, 0xDC)),
    "indic_thai": b"\xe0\xe1",
    "symbols": b"\xe2",
    "kana_cjk": bytes(range(0xE3, 0xEA)),
    "hangul": b"\xea\xeb\xec\xed",
    "emoji_astral": b"\xf0\xf1\xf2\xf3\xf4",
}

PAIR_CLASSES: dict[str, list[tuple[bytes, bytes]]] = {
    "latex_commands": [(b"\\", _LETTERS), (b"\\", b"[]()")],
    "code_operators": [
        (b"=!<>+-*/:|&", b"="),
        (b"-=", b">"),
        (b":", b":"),
        (b"+", b"+"),
        (b"&", b"&"),
        (b"|", b"|"),
        (b"<", b"/"),
    ],
    "calls": [(b"(", b")"), (b"[", b"]"), (b")", b":;{"), (_LETTERS, b"(")],
    "line_ends_code": [(b";{}", b"\n")],
    "comments": [(b"/", b"/*"), (_LINE_START, b"#")],
    "fences": [(b"`", b"`")],
    "indents": [(b"\n", b" \t")],
    "bullets": [(_LINE_START, b"-*"), (_LINE_START, b"\xe2")],
    "numbered_lines": [(_LINE_START, _DIGITS)],
    "capital_lines": [(_LINE_START, _UPPER)],
    "blank_lines": [(b"\n", b"\n")],
    "sentence_ends": [(b".?!", b" \n\0")],
    "number_operators": [(_DIGITS, _OPERATORS), (_OPERATORS, _DIGITS)],
    "powers": [(b"^_", b"{(" + _DIGITS + _LETTERS)],
    "decimals": [(_DIGITS, b".,")],
    "camel_case": [(bytes(range(ord("a"), ord("z") + 1)), _UPPER)],
    "snake_case": [(_LETTERS, b"_")],
    "dollar_math": [(b"$", _LETTERS + b"\\"), (b"$", b"$")],
    "math_symbols": [
        (b"\xe2", b"\x88\x89\x8a\x8b"),
        (b"\xc2", b"\xb1\xb2\xb3\xb7"),
        (b"\xc3", b"\x97\xb7"),
        (b"\xcf", b"\x80"),
    ],
    "spaced_operators": [(b" ", b"+*=<>^")],
    "money": [(b"$", _DIGITS)],
    "blanks_to_fill": [(b"_", b"_")],
}

WORD_LISTS: dict[str, str] = {
    "function_words": """the a an of to in on at by for with from as and or is are was were be been being it its this
        that these those he she they we you i his her their our your my me him them us do does did has have had will
        would can could should may might must there here than then so but about into over under between after before
        during also such same other more most some any each no nor up out s t""",
    "what_who_when": "what who whom whose when where which name define definition meaning called",
    "why_how": "why how explain explains explanation describe discuss elaborate",
    "easy_tasks": """translate translation rewrite rephrase paraphrase summarize summarise summary shorten proofread
        correct spelling grammar convert format list extract classify categorize label tag title caption reply email
        subject synonym synonyms capitalize lowercase uppercase tl dr""",
    "hard_tasks": """prove proof proofs derive derivation show verify determine deduce justify rigorous rigorously
        optimal optimize optimise minimize maximise maximize minimise algorithm complexity design architect architecture
        implement analyze analyse analysis evaluate critique compare synthesize investigate debug refactor""",
    "chat": """hi hello hey thanks thank please sorry ok okay yes yeah bye goodbye morning evening night cool great nice
        love feel feeling friend fun joke chat talk birthday weekend lol wow""",
    "creative": """poem story song lyrics essay blog haiku novel character fiction tweet slogan post letter speech
        recipe plan trip ideas brainstorm names""",
    "negation": "not except false incorrect never neither none without cannot least unless however although",
    "logic": """if therefore hence because implies assume assuming suppose given let every exists iff either
        necessarily sufficient necessary statement statements true consistent contradiction valid invalid argument
        premise conclusion""",
    "quantities": """many much number total each per half twice times double triple percent percentage average sum
        difference remaining left altogether cost costs price dollars cents hours minutes days weeks years miles pounds
        spent buys sells paid earns""",
    "math": """integral integer integers matrix theorem polynomial polynomials equation equations function functions
        derivative vector vectors prime primes divisible modulo triangle circle radius angle angles perpendicular
        parallel coefficient coefficients probability random permutation permutations graph vertices converge convergence
        limit series sequence group ring field subgroup isomorphic homomorphism eigenvalue eigenvalues determinant
        bijective injective continuous differentiable euclidean real complex roots root frac sqrt cdot sum infinity mod
        floor log sin cos tan pi leq geq inequality positive""",
    "code": """python java javascript typescript rust golang sql html css bash shell code coding function class def
        return import var const int string array list dict tuple boolean loop null async await thread mutex api http
        json yaml docker kubernetes git bug compile compiler exception stack trace regex query database server client
        framework library test tests unit pytest numpy pandas react node print self assert lambda struct pointer""",
    "science": """atom atoms molecule molecules electron electrons proton energy kinetic velocity acceleration force mass
        charge voltage current magnetic electric temperature pressure volume gas entropy enthalpy equilibrium reaction
        acid base solution concentration mole moles wavelength frequency photon quantum orbital nucleus cell cells gene
        genes dna rna protein enzyme species evolution membrane bond bonds compound oxidation heat wave friction""",
    "medicine": """patient patients year old woman man symptoms diagnosis disease treatment therapy blood pain fever
        history examination physician hospital clinical infection cancer drug dose mg heart cardiac renal liver syndrome
        chronic acute artery nerve muscle virus bacteria vaccine""",
    "law_business": """court law legal contract defendant plaintiff statute constitution amendment liability negligence
        property jury state tax market demand supply firm firms company corporation profit revenue cost inflation
        interest capital investment bond bonds stock accounting management marketing elasticity monopoly gdp trade""",
    "humanities": """history century war empire king revolution philosophy philosopher moral morally ethics ethical
        religion religious god church culture society political government president theory according author art
        psychology behavior social cognitive argument kant plato aristotle buddhist""",
    "output_format": "json xml csv table markdown bullet bullets columns schema yaml outline steps step words sentences",
}

WORD_TABLE_BITS, _BUCKET_BITS = 12, 12


@cache
def byte_class_table() -> NDArray[np.float32]:
    """(256, classes) 1.0 where the byte is in the class."""
    table = np.zeros((256, len(BYTE_CLASSES)), np.float32)
    for column, members in enumerate(BYTE_CLASSES.values()):
        table[list(members), column] = 1.0
    return table


@cache
def pair_class_table() -> NDArray[np.uint8]:
    """(65536,) class of a byte pair read as a little-endian number; 0 = none, the first class to claim it wins."""
    table = np.zeros((256, 256), np.uint8)
    for number, patterns in reversed(list(enumerate(PAIR_CLASSES.values(), start=1))):
        for first, second in patterns:
            table[np.ix_(list(second), list(first))] = number
    return table.reshape(-1)


@cache
def word_tables() -> tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.uint64]]:
    """Hash of the word and its list (1-based) at each slot, and what to add to every hash: see `word_class`.

    Two-level perfect hashing: a first table gives the displacement with which no two listed words share a slot.
    """
    hashes, lists = _listed_words()
    keys = np.zeros(1 << WORD_TABLE_BITS, np.uint64)
    classes = np.zeros(1 << WORD_TABLE_BITS, np.uint8)
    buckets = _bucket(hashes)
    displacement = np.zeros(1 << _BUCKET_BITS, np.uint64)
    for bucket in sorted(set(buckets.tolist()), key=lambda b: -int((buckets == b).sum())):
        members = np.flatnonzero(buckets == bucket)
        displacement[bucket] = _free_displacement(hashes[members], classes)
        slots = _slots(hashes[members], displacement[bucket])
        keys[slots], classes[slots] = hashes[members], lists[members]
    return keys, classes, displacement


def word_class(hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(words,) the list each word is on, 1-based in the order of `WORD_LISTS`; 0 = on none."""
    keys, classes, displacement = word_tables()
    slots = _slots(hashes, displacement.take(_bucket(hashes)))
    return np.asarray(classes.take(slots) * (keys.take(slots) == hashes), np.uint8)


def _bucket(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (hashes >> np.uint64(64 - _BUCKET_BITS)).view(np.int64)


def _slots(hashes: NDArray[np.uint64], displacement: NDArray[np.uint64] | np.uint64) -> NDArray[np.int64]:
    return ((hashes + displacement) & np.uint64((1 << WORD_TABLE_BITS) - 1)).view(np.int64)


def _free_displacement(hashes: NDArray[np.uint64], classes: NDArray[np.uint8]) -> np.uint64:
    for candidate in range(256):
        displacement = np.uint64(candidate * 0x9E37)
        slots = _slots(hashes, displacement)
        if not classes[slots].any() and len(set(slots.tolist())) == len(slots):
            return displacement
    raise AssertionError("the word lists no longer fit their table: raise WORD_TABLE_BITS in lexicon.py")


def _listed_words() -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Each listed word once (the first list that names it), with its list."""
    owner: dict[str, int] = {}
    for number, words in enumerate(WORD_LISTS.values(), start=1):
        for word in words.split():
            owner.setdefault(word, number)
    return _hashes(owner), np.fromiter(owner.values(), np.uint8, len(owner))


def _hashes(words: Iterable[str]) -> NDArray[np.uint64]:
    return scan([" ".join(words)]).word_hash
