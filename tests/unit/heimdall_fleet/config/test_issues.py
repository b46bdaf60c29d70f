import pytest

from heimdall_fleet.config.issues import Issue, Place, dotted, mask_line, render


def test_an_issue_points_at_its_place() -> None:
    place = Place("heimdall.yaml", 12, 3, 5, "  alhpa: 0.7")
    assert render(Issue("router.alhpa", "there is no such key", "did you mean alpha?", place)).splitlines() == [
        "heimdall.yaml:12:3: error: router.alhpa: there is no such key",
        "   12 |   alhpa: 0.7",
        "      |   ^~~~~",
        "   = did you mean alpha?",
    ]


def test_the_caret_stays_below_its_character_in_a_long_line_and_after_a_tab() -> None:
    long = Place("f", 1, 5001, 3, "\t" + "x" * 4999 + "abc" + "y" * 5000)
    _, line, caret = render(Issue("k", "m", "", long)).splitlines()
    assert line[caret.index("^") : caret.rindex("~") + 1] == "abc"
    assert len(line) < 200


def test_an_issue_outside_of_a_file_names_its_source() -> None:
    assert render(Issue("a", "m", "", Place("environment X"))) == "environment X: error: a: m"


def test_keys_with_dots_or_slashes_stand_in_quotes() -> None:
    assert dotted(("models", "openai/gpt-4.1", "providers", 0)) == 'models."openai/gpt-4.1".providers[0]'


@pytest.mark.parametrize(
    "line",
    [
        "    keys: [{name: main, value: CANARY-123, weight: 1}]",
        '    keys: [{name: main, value: "CANARY-123 with blanks", weight: 1}]',
        "      value: 'CANARY-123'",
        "  sasl_plain_password: CANARY-123",
        "  secret_access_key: CANARY-123",
        '  "session_token": CANARY-123',
        "  extra_headers: {Authorization: Bearer CANARY-123}",
        "  x-api-key: CANARY-123",
        "state: {url: redis://:CANARY-123@host:6379/0}",
        "  proxy: http://user:CANARY-123@host",
        "  artifact_url: https://host/latest.json?token=CANARY-123",
        "  anything: sk-CANARY-123456789",
        '  value: "CANARY-123',
    ],
)
def test_a_credential_in_a_line_is_masked_and_nothing_moves(line: str) -> None:
    masked = mask_line(line)
    assert "CANARY" not in masked
    assert len(masked) == len(line)


@pytest.mark.parametrize("line", ["  value: ${OPENAI_API_KEY}", "router: {alpha: 0.7}", "  models: [openai/gpt-5]"])
def test_a_line_without_a_credential_stays(line: str) -> None:
    assert mask_line(line) == line
