"""AWS Signature Version 4, by botocore's signer.

botocore is imported at the first signature: it is 7 MiB that only workers with Bedrock need.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

_TIMESTAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class AwsKey:
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def signed_headers(key: AwsKey, region: str, url: str, body: bytes, now_s: float) -> Mapping[str, str]:
    """The headers that sign a JSON POST of `body` to `url` for the service `bedrock`. `now_s` is Unix time.

    The path of `url` is already percent-encoded and is sent as it is; the signature is over its second encoding.
    """
    from botocore.auth import SigV4Auth  # noqa: PLC0415  see above
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    sent = {"content-type": "application/json", "host": urlsplit(url).netloc}
    sent["x-amz-date"] = datetime.fromtimestamp(now_s, UTC).strftime(_TIMESTAMP)
    if key.session_token:
        sent["x-amz-security-token"] = key.session_token
    request = AWSRequest("POST", url, headers=sent, data=body)
    request.context["timestamp"] = sent["x-amz-date"]
    signer = SigV4Auth(Credentials(key.access_key, key.secret_key, key.session_token), "bedrock", region)
    # `add_auth` would take the time from the machine's clock; these are its own steps after that.
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    scope = signer.scope(request)
    signed = signer.signed_headers(signer.headers_to_sign(request))
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed}, Signature={signer.signature(to_sign, request)}"
    )
    del sent["host"]
    return sent
