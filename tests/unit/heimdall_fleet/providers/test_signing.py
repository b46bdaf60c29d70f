"""Signature Version 4, checked against its definition written out here, and against the clock."""

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import pytest

from heimdall_fleet.providers.signing import AwsKey, signed_headers

URL = "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-3-5-sonnet-20241022-v2%3A0/converse"
NOW_S = 1_790_000_000.9
STAMP = "20260921T141320Z"


def expected_signature(url: str, headers: Mapping[str, str], body: bytes, secret: str, region: str) -> str:
    parts = urlsplit(url)
    every = {**headers, "host": parts.netloc}
    names = ";".join(sorted(name for name in every if name != "authorization"))
    lines = "".join(f"{name}:{every[name]}\n" for name in names.split(";"))
    path = quote(parts.path, safe="/~")
    canonical = "\n".join(["POST", path, parts.query, lines, names, hashlib.sha256(body).hexdigest()])
    stamp = headers["x-amz-date"]
    scope = f"{stamp[:8]}/{region}/bedrock/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + secret.encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize("token", [None, "a-session-token"])
@pytest.mark.parametrize(
    "url", [URL, "http://127.0.0.1:8080/bedrock/model/arn%3Aaws%3Abedrock%3Aus%3A1%3Aprofile%2Fx/converse-stream"]
)
def test_the_signature_is_the_defined_one(url: str, token: str | None) -> None:
    key = AwsKey("AKIAIOSFODNN7EXAMPLE", "the-secret", token)
    headers = signed_headers(key, "eu-west-1", url, b'{"a":1}', NOW_S)
    assert headers["x-amz-date"] == STAMP
    assert headers.get("x-amz-security-token") == token
    signature = expected_signature(url, headers, b'{"a":1}', "the-secret", "eu-west-1")
    signed = "content-type;host;x-amz-date" + (";x-amz-security-token" if token else "")
    assert headers["authorization"] == (
        f"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/{STAMP[:8]}/eu-west-1/bedrock/aws4_request, "
        f"SignedHeaders={signed}, Signature={signature}"
    )


def test_a_key_shows_no_secret() -> None:
    assert "hidden" not in repr(AwsKey("AKIA", "hidden-secret", "hidden-token"))
