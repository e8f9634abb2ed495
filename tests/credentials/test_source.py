"""Sources: what each spelling names, and what is no source."""

import pytest

from nono_mcp.credentials import source
from nono_mcp.credentials.secret import CredentialError
from nono_mcp.credentials.source import Command, Environ, File, Keyring, OAuth2, Source


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("keyring://nono/openai", Keyring("nono", "openai")),
        ("keyring://my.service/me@example.org", Keyring("my.service", "me@example.org")),
        ("env://OPENAI_API_KEY", Environ("OPENAI_API_KEY")),
        ("file:///run/secrets/key", File("/run/secrets/key")),
        ("cmd:///usr/bin/pass show 'a b'", Command(("/usr/bin/pass", "show", "a b"), "")),
        (
            "op://Work/OpenAI/key",
            Command(("op", "read", "--no-newline", "op://Work/OpenAI/key"), ""),
        ),
        ("bw://OpenAI", Command(("bw", "get", "password", "OpenAI", "--raw"), "")),
        ("bw://OpenAI/notes", Command(("bw", "get", "notes", "OpenAI", "--raw"), "")),
        (
            "oauth2://me@login.example.org/token?secret=env://SECRET&scope=a",
            OAuth2("https://login.example.org/token", "me", Environ("SECRET"), "a"),
        ),
        (
            "oauth2://me@127.0.0.1:8080/token?secret=env://SECRET",
            OAuth2("http://127.0.0.1:8080/token", "me", Environ("SECRET"), ""),
        ),
    ],
)
def test_a_source_is_what_it_says(text: str, expected: Source) -> None:
    found = source.parse(text)
    if isinstance(expected, Command):
        assert isinstance(found, Command)
        assert found.argv == expected.argv
    else:
        assert found == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "openai", "sk-abc", "http://host/", "keyring:nono/x", "KEYRING://nono/x"),
        *(
            "keyring://nono",
            "keyring:///x",
            "keyring://a/b/c",
            "keyring://a/b c",
            "keyring://a/b\n",
        ),
        *("env://", "env://1A", "env://A-B", "env://A=B", "env://É"),
        *("file://relative", "file:///", "file:///a/../b", "file:///a//b", "file:///a\0b"),
        *("cmd://", "cmd://pass show x", "cmd://./pass", "cmd:///bin/sh 'open"),
        *("op://", "op://vault/item", "op://a/b/c/d/e", "bw://", "bw://-x", "bw://a/other"),
        *("oauth2://host/token?secret=env://A", "oauth2://me@host/token", "oauth2://me@host"),
        *("oauth2://me@host/t?secret=env://A&other=1", "oauth2://me@ho st/t?secret=env://A"),
        "oauth2://me@h/t?secret=oauth2://me@h/t",
        "file:///" + "a" * 3000,
    ],
)
def test_what_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(CredentialError):
        source.parse(text)


def test_a_mistake_isnt_repeated() -> None:
    # What stands where a source should is a key, often enough.
    for text in ("sk-verysecret", "env://sk-verysecret", "keyring://sk-verysecret"):
        with pytest.raises(CredentialError) as caught:
            source.parse(text)
        assert "verysecret" not in str(caught.value)


def test_arguments_of_a_command_arent_shown() -> None:
    assert str(source.parse("cmd:///bin/tool --token verysecret")) == "cmd:///bin/tool"


@pytest.mark.parametrize("name", ["", "A", "-a", "a_b", "a/b", "a" * 65, "a\n"])
def test_a_name_is_plain(name: str) -> None:
    with pytest.raises(CredentialError):
        source.usual(name)
