import datetime as dt
import ssl

import pytest

from nono_proxy.config import HostRule
from nono_proxy.tls import SessionAuthority


def shake(authority: SessionAuthority, host: str, path: str) -> None:
    """Let a client that trusts *authority* meet a server with a leaf for *host*."""
    with open(path, "wb") as file:  # noqa: PTH123 - OpenSSL wants a name
        file.write(authority.leaf_pem(host))
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(path)
    client_context = ssl.create_default_context(cadata=authority.certificate_pem)
    client_context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname=host.strip("[]"))
    server = server_context.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.fixture
def authority() -> SessionAuthority:
    return SessionAuthority(dt.datetime.now(dt.UTC), dt.timedelta(hours=1))


@pytest.mark.parametrize("host", ["api.example.com", "x.zone.example", "127.0.0.1", "[::1]"])
def test_a_leaf_is_trusted_for_an_intercepted_host(
    authority: SessionAuthority, host: str, tmp_path: object
) -> None:
    rules = ("api.example.com", "*.zone.example", "127.0.0.1", "[::1]")
    authority.constrain(map(HostRule.parse, rules))
    shake(authority, host, f"{tmp_path}/leaf.pem")


@pytest.mark.parametrize("host", ["other.example.com", "example.com", "evil.example", "127.0.0.1"])
def test_a_leaf_for_another_host_is_worth_nothing(
    authority: SessionAuthority, host: str, tmp_path: object
) -> None:
    authority.constrain([HostRule.parse("api.example.com")])
    with pytest.raises(ssl.SSLCertVerificationError, match=r"permitted subtree|excluded subtree"):
        shake(authority, host, f"{tmp_path}/leaf.pem")


def test_without_intercepted_hosts_the_authority_is_worth_nothing(
    authority: SessionAuthority, tmp_path: object
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(authority, "api.example.com", f"{tmp_path}/leaf.pem")
    assert "key" not in repr(authority)
