"""Policies made up by hypothesis."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

from nono_mcp.policy import bounds
from nono_mcp.policy.document import (
    AgentSection,
    AskSection,
    CommandsSection,
    Document,
    EnforcementSection,
    EnvironmentSection,
    FilesystemSection,
    LimitsSection,
    NetworkSection,
    ProcessSection,
    RouteSection,
    SnapshotsSection,
)
from nono_mcp.policy.keys import GUARANTEES, ROLLBACK_MODES

T = TypeVar("T")

text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
paths = st.builds(
    lambda head, rest: "/".join([head, *rest]),
    st.sampled_from(["", "~", "$HOME", "$WORKSPACE", "$TMPDIR"]),
    st.lists(text, min_size=1, max_size=3),
)
path_lists = st.lists(paths, max_size=3).map(tuple)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
ports = st.lists(st.integers(1, bounds.PORT_MAX), max_size=3).map(tuple)
flags = st.none() | st.booleans()
sizes = st.none() | st.integers(1, bounds.BYTES_MAX)
counts = st.none() | st.integers(1, bounds.COUNT_MAX)
seconds = st.none() | st.floats(0.001, bounds.SECONDS_MAX, allow_nan=False)

hosts = st.sampled_from(
    ["a.test", "*.zone.test", "a.test:8443", "127.0.0.1:80", "[::1]:8080", "*.zone.test:80"]
)
host_lists = st.lists(hosts, max_size=3).map(tuple)
credentials = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True)
sources = st.sampled_from(
    ["keyring://nono/x", "env://X", "file:///run/x", "cmd:///bin/x 'a b'", "op://a/b/c", "bw://x"]
)
routes = st.builds(
    RouteSection,
    st.lists(hosts, max_size=2).map(tuple),
    st.lists(
        st.sampled_from(
            ["bearer", "basic-password:me", "header:X-Key", "query:k", "path:bot", "body:/a/b"]
        ),
        max_size=2,
    ).map(tuple),
    st.lists(names, max_size=2).map(tuple),
    st.lists(st.sampled_from(["A_URL", "B_URL/v1"]), max_size=2).map(tuple),
    st.none() | st.sampled_from(["sk-", ""]),
    flags,
)


def named(values: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[tuple[str, T], ...]]:
    """Return tables by the name of a credential."""
    return st.dictionaries(credentials, values, max_size=2).map(lambda found: tuple(found.items()))


proxied = st.builds(
    NetworkSection,
    mode=st.sampled_from([None, "proxy"]),
    allow_domains=host_lists,
    deny_domains=host_lists,
    allow_addresses=st.lists(st.sampled_from(["10.0.0.0/8", "fd00::/8", "127.0.0.1"])).map(tuple),
    credentials=st.lists(credentials, max_size=2).map(tuple),
    sources=named(sources),
    endpoints=st.lists(st.sampled_from(["x:GET:/v1/**", "y:*:/"]), max_size=2).map(tuple),
    upstream_proxy=st.none() | st.sampled_from(["http://proxy.test:3128", "https://[::1]:1"]),
    upstream_proxy_credential=st.none() | sources,
    upstream_ca=st.none() | text.map(lambda rest: f"/{rest}"),
    routes=named(routes),
)
networks = (
    st.builds(NetworkSection, st.sampled_from([None, "closed", "open"]))
    | st.builds(NetworkSection, st.sampled_from([None, "ports"]), ports, ports)
    | proxied
)
environments = st.builds(
    EnvironmentSection,
    st.lists(names, max_size=3).map(tuple),
    st.dictionaries(names, text, max_size=3).map(lambda found: tuple(found.items())),
)
patterns = st.builds(
    lambda head, parts, tail: head + "/".join(parts) + tail,
    st.sampled_from(["", "/"]),
    st.lists(text.filter(lambda part: "/" not in part and part not in (".", "..")), min_size=1),
    st.sampled_from(["", "/"]),
)
profile_names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)

commands = st.lists(st.from_regex(r"[A-Za-z0-9_+@-]{1,9}", fullmatch=True) | paths).map(tuple)
askable = st.lists(st.sampled_from(["a.example", "*.b.example:80"]), max_size=2).map(tuple)
askings = st.builds(AskSection, st.sampled_from([None, "any", "never"])) | st.builds(
    AskSection, st.sampled_from([None, "listed"]), path_lists, path_lists, askable
)

documents = st.builds(
    Document,
    description=st.just("") | text,
    extends=st.none() | st.lists(profile_names, max_size=2).map(tuple),
    filesystem=st.builds(FilesystemSection, *[path_lists] * 9, flags, flags),
    network=networks,
    limits=st.builds(LimitsSection, seconds, seconds, sizes, counts, counts, sizes, sizes),
    environment=environments,
    process=st.builds(ProcessSection, flags),
    commands=st.builds(CommandsSection, commands),
    enforcement=st.builds(
        EnforcementSection, st.lists(st.sampled_from(GUARANTEES), max_size=2).map(tuple), flags
    ),
    snapshots=st.builds(
        SnapshotsSection,
        flags,
        st.lists(patterns, max_size=2).map(tuple),
        sizes,
        flags,
        st.sampled_from([None, *ROLLBACK_MODES]),
    ),
    ask=askings,
    agent=st.builds(AgentSection, st.sampled_from([None, "full", "core", "shell,files"])),
)
