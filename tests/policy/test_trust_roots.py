"""Whom a policy's proxy trusts besides: a file of certificates that nobody confined can write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import trust_roots
from nono_mcp.policy.document import NetworkSection
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_sandbox.confinement import NAMESPACES
from tests.proxy.world import Roots

if TYPE_CHECKING:
    from pathlib import Path

    from nono_proxy.config import Config
    from tests.policy.conftest import Machine


def config(machine: Machine, ca: Path, **grants: tuple[str, ...]) -> Config:
    """Return what the proxy is told of a policy with the certificates *ca*."""
    network = NetworkSection().replace(upstream_ca=str(ca), allow_domains=("example.com",))
    prepared = machine.prepare(flags=machine.flags(**grants).replace(network=network))
    return trust_roots.config_for(prepared, NAMESPACES)


def test_its_certificates_are_trusted(machine: Machine) -> None:
    pem = Roots().pem
    found = config(machine, machine.write("company.pem", pem))
    assert found.upstream_roots_pem == pem


@pytest.mark.parametrize(("kind", "grant"), [("allow_file", "company.pem"), ("allow", ".")])
def test_one_that_could_be_changed_is_refused(machine: Machine, kind: str, grant: str) -> None:
    ca = machine.write("certificates/company.pem", Roots().pem)
    with pytest.raises(RefusedError) as refused:
        config(machine, ca, **{kind: (str(ca.parent / grant),)})
    assert (refused.value.code, refused.value.path) == ("net.upstream-ca", str(ca))


def test_a_link_to_it_in_the_workspace_is_refused(machine: Machine) -> None:
    ca = machine.write("certificates/company.pem", Roots().pem)
    link = machine.workspace / "company.pem"
    link.symlink_to(ca)
    with pytest.raises(RefusedError):
        config(machine, link, allow=(str(machine.workspace),))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificates"),
        ("\u00e9", "not PEM"),
        ("\n" * (trust_roots.CERTIFICATES_BYTES_MAX + 1), "over 1048576 bytes"),
    ],
    ids=["nothing", "none", "no text", "too much"],
)
def test_what_holds_no_certificates_is_refused(machine: Machine, text: str, why: str) -> None:
    with pytest.raises(PolicyError, match=why):
        config(machine, machine.write("company.pem", text))


def test_one_that_isnt_there_is_refused(machine: Machine) -> None:
    with pytest.raises(PolicyError, match="No such file"):
        config(machine, machine.home / "company.pem")
