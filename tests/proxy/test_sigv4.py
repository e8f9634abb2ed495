"""The vector is get-vanilla of AWS's Signature Version 4 test suite."""

import pytest

from nono_proxy.errors import CredentialUnavailableError, Refusal
from nono_proxy.placements import Parts
from nono_proxy.sigv4 import Key, Unsigned, body_hash, resign

EMPTY = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
KEY = Key(b"AKIDEXAMPLE", b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", b"")


def unsigned(signed: bytes = b"host;x-amz-date", **fields: bytes) -> Unsigned:
    value = (
        b"AWS4-HMAC-SHA256 Credential=AKIANONO/20150830/us-east-1/service/aws4_request, "
        b"SignedHeaders=" + signed + b", Signature=" + b"0" * 64
    )
    lines = {
        b"authorization": b"Authorization: " + value,
        b"x-amz-date": b"X-Amz-Date: 20150830T123600Z",
    }
    for name, given in fields.items():
        lines[name.replace("_", "-").encode()] = name.replace("_", "-").encode() + b": " + given
    return Unsigned(
        b"GET", Parts(list(lines.items()), b"/", None), b"example.amazonaws.com", EMPTY, None
    )


def signature(request: Unsigned, key: Key = KEY) -> bytes:
    return dict(resign(request, key))[b"authorization"].rpartition(b"Signature=")[2]


def test_the_published_vector() -> None:
    assert signature(unsigned()) == (
        b"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )


def test_the_key_id_is_the_real_one_and_a_session_token_is_signed() -> None:
    key = KEY._replace(session=b"SESSION")
    fields = dict(resign(unsigned(x_amz_security_token=b"phantom"), key))
    assert b"Credential=AKIDEXAMPLE/20150830/" in fields[b"authorization"]
    assert b"SignedHeaders=host;x-amz-date;x-amz-security-token," in fields[b"authorization"]
    assert fields[b"x-amz-security-token"].endswith(b" SESSION")


@pytest.mark.parametrize(
    "request_",
    [
        unsigned(x_amz_date=b"20160101T000000Z"),
        unsigned(signed=b"x-amz-date"),
        unsigned(authorization=b"AWS4-HMAC-SHA256 Credential=x"),
    ],
)
def test_what_cannot_be_signed_again_is_refused(request_: Unsigned) -> None:
    with pytest.raises(Refusal):
        resign(request_, KEY)


def test_a_body_whose_chunks_are_signed_is_refused() -> None:
    with pytest.raises(Refusal, match="signing-unsupported"):
        body_hash([(b"x-amz-content-sha256", b"x: STREAMING-AWS4-HMAC-SHA256-PAYLOAD")])
    assert body_hash([(b"x-amz-content-sha256", b"x: UNSIGNED-PAYLOAD")]) == b"UNSIGNED-PAYLOAD"
    assert body_hash([]) is None


def test_a_key_has_an_id_and_a_secret() -> None:
    assert Key.parse(b"a:b:c:d") == Key(b"a", b"b", b"c:d")
    with pytest.raises(CredentialUnavailableError):
        Key.parse(b"sk-only")
