"""Text from outside made safe for a log line: credentials out, control characters escaped, length capped."""

import re
from collections.abc import Iterable

_KNOWN_CREDENTIAL = re.compile(
    r"(?:\b(?:sk|pk|rk|xai|gsk|bfr)[-_]|\bAIza|\bya29\.|\bAKIA|\bASIA|\bgh[pousr]_|\beyJ)[-_.A-Za-z0-9/+]{8,}"
    r"|\b(?:[Bb]earer|[Bb]asic|BEARER|BASIC)\s+[-_.~+/=A-Za-z0-9]{8,}"
    r"|(?<=://)[^/@\s]+(?=@)"
)
# How each of them begins. Nearly no text has one of these, and that is found out far more quickly.
_BEGINNING = r"[sprg]s?k[-_]|xai[-_]|bfr[-_]|AIza|ya29|A[KS]IA|gh[pousr]_|eyJ|://|[Bb](?:earer|asic)|BEARER|BASIC"
# C0 and C1 controls, and what makes a reader see another line or another order than the bytes have.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_MASK = "***"
_LONGEST_CREDENTIAL = 4_096


class Scrubber:
    """Takes credentials out of text: those it was told, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """More credentials to take out."""
        self._secrets.update(secret for secret in secrets if secret)
        # Longest first, so that a credential that begins like another is taken out whole.
        told = [re.escape(secret) for secret in sorted(self._secrets, key=len, reverse=True)]
        self._known = re.compile("|".join(told)) if told else None
        self._suspect = re.compile("|".join([*told, _BEGINNING]))

    def safe(self, text: str, longest: int) -> str:
        """What may stand in a log line: without credentials, on one line, at most `longest` characters and a mark.

        A credential that the cut would halve is taken out before the cut.
        """
        if len(text) <= longest:
            shown = text if self._suspect.search(text) is None else self.scrub(text)
            return shown if shown.isascii() and shown.isprintable() else printable(shown, longest)
        head = self.scrub(text[: longest + _LONGEST_CREDENTIAL])
        return printable(head + text[longest + _LONGEST_CREDENTIAL :], longest)

    def scrub(self, text: str) -> str:
        """The text without credentials, of any length."""
        if self._known is not None:
            text = self._known.sub(_MASK, text)
        return _KNOWN_CREDENTIAL.sub(_MASK, text)


def printable(text: str, longest: int) -> str:
    """One line of at most `longest` characters and a mark for what was cut; control characters as \\u escapes.

    The cut comes before everything else, so a megabyte costs no more than a line.
    """
    cut = len(text) - longest
    shown = _CONTROL.sub(_escape, text[:longest])
    return f"{shown}…[+{cut}]" if cut > 0 else shown


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
