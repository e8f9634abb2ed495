"""The certificates of one session: what is minted for hosts whose requests are read.

A P-256 authority that lives in memory, may sign for the intercepted hosts and no other (RFC 5280
4.2.1.10), and below it one key with a leaf for each host.

Architecture invariant: no I/O and no clock; who mints says what time it is.
"""

import datetime as dt
from collections.abc import Iterable
from ipaddress import ip_network

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nono_proxy.authority import literal
from nono_proxy.config import HostRule

_SKEW = dt.timedelta(minutes=5)
# A subtree that holds no host: an authority for nothing.
_NOTHING = "invalid"
_EVERYTHING = ("0.0.0.0/0", "::/0")


def _general_name(host: str) -> x509.GeneralName:
    address = literal(host)
    return x509.DNSName(host) if address is None else x509.IPAddress(address)


def _constraints(rules: Iterable[HostRule]) -> x509.NameConstraints:
    """Permit the hosts of *rules*; a kind of name without any is excluded."""
    names: set[x509.GeneralName] = set()
    addresses: set[x509.GeneralName] = set()
    for rule in rules:
        address = literal(rule.pattern)
        if address is None:
            names.add(x509.DNSName(rule.pattern.removeprefix("*.")))
        else:
            addresses.add(x509.IPAddress(ip_network(address)))
    permitted = [*(names or {x509.DNSName(_NOTHING)}), *addresses]
    excluded = None
    if not addresses:
        excluded = [x509.IPAddress(ip_network(text)) for text in _EVERYTHING]
    return x509.NameConstraints(sorted(permitted, key=repr), excluded)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


class SessionAuthority:
    """The session's certificate authority; its key never leaves this object."""

    def __init__(self, now: dt.datetime, valid: dt.timedelta) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._from = now - _SKEW
        self._until = now + valid
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nono session authority")])
        self._certificate = self._issue(())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    def certificate_pem(self) -> str:
        """Return the authority's certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def constrain(self, rules: Iterable[HostRule]) -> None:
        """Issue the authority's certificate anew, for the hosts of *rules* alone."""
        self._certificate = self._issue(rules)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._from)
            .not_valid_after(self._until)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def _issue(self, rules: Iterable[HostRule]) -> x509.Certificate:
        return (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(_constraints(rules), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def leaf_pem(self, host: str) -> bytes:
        """Return the leaf key and a certificate for *host*, for a TLS server to load."""
        # A common name that looks like a host's would be held against the constraints as one.
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nono session leaf")])
        leaf = (
            self._builder(subject, self._leaf_key)
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        key = self._leaf_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return key + leaf.public_bytes(serialization.Encoding.PEM)
