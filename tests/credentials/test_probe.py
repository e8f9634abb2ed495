"""Asking a provider: who is spoken to, and what comes out of it."""

from __future__ import annotations

import select
import socket
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import httpx2
import pytest

from nono_mcp.credentials import probe
from nono_mcp.credentials.probe import Around, Probe
from nono_mcp.credentials.secret import CredentialError, Secret

VALUE = "sk-test-0123456789abcdef"  # a made-up one


def test_no_proxy_of_the_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "127.0.0.1", 0
    with socket.create_server(nowhere) as host, socket.create_server(nowhere) as proxy:
        there = f"127.0.0.1:{host.getsockname()[1]}"
        probes = {"openai": Probe("/v1/models", host=there)}
        monkeypatch.setattr(probe, "PROBES", MappingProxyType(probes))
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(probe, "PROBE_S_MAX", 5.0)
        with ThreadPoolExecutor(1) as threads:
            asked = threads.submit(end_one, host)
            with pytest.raises(CredentialError):
                probe.ask("openai", Secret(VALUE), Around())
            told = bool(select.select([proxy], [], [], 0)[0])
            # If nobody else did.
            socket.create_connection(host.getsockname()).close()
            asked.result()
        assert not told


def end_one(server: socket.socket) -> None:
    server.accept()[0].close()


def test_what_was_answered_isnt_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def garbled(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.RemoteProtocolError(f"illegal status line: {VALUE}")

    client = httpx2.Client(transport=httpx2.MockTransport(garbled))
    monkeypatch.setattr(probe, "_client", lambda _: client)
    with pytest.raises(CredentialError) as failed:
        probe.ask("openai", Secret(VALUE), Around())
    assert str(failed.value) == "api.openai.com can't be asked: RemoteProtocolError"
