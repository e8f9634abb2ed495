from __future__ import annotations

import pytest

from nono_mcp.policy.document import (
    Document,
    EnforcementSection,
    EnvironmentSection,
    FilesystemSection,
    LimitsSection,
    NetworkSection,
    ProcessSection,
    SnapshotsSection,
)
from nono_mcp.policy.errors import PolicyError
from nono_mcp.policy.parse import parse_text

WHOLE = """
description = "Data work"
extends = ["python", "my-base"]

[filesystem]
allow = ["$WORKSPACE", "~/data"]
read = ["/srv/models"]
write = []
allow_file = ["~/notes.txt"]
read_file = ["/etc/machine-id"]
write_file = ["$TMPDIR/log"]
deny = ["$WORKSPACE/.env"]
deny_write = ["$WORKSPACE/.git/hooks"]
bypass = ["~/.aws"]
tools = false

[network]
mode = "ports"
connect_ports = [5432]
bind_ports = [8000, 8001]

[limits]
timeout_s = 2.5
cpu_s = 60
memory_max = "2G"
processes_max = 64
open_files_max = 1024
file_size_max = 1000
output_max = "512K"

[environment]
pass = ["FOO"]
set = { A = "b", C = "" }

[process]
ptrace = true

[enforcement]
require = ["files", "network"]
best_effort = false

[snapshots]
enabled = true
exclude = ["node_modules", "/build/*.o"]
quota = "2G"
broad = false
rollback = "confirm"
"""


def test_every_key_is_read() -> None:
    assert parse_text(WHOLE, "x.toml") == Document(
        description="Data work",
        extends=("python", "my-base"),
        filesystem=FilesystemSection(
            allow=("$WORKSPACE", "~/data"),
            read=("/srv/models",),
            allow_file=("~/notes.txt",),
            read_file=("/etc/machine-id",),
            write_file=("$TMPDIR/log",),
            deny=("$WORKSPACE/.env",),
            deny_write=("$WORKSPACE/.git/hooks",),
            bypass=("~/.aws",),
            tools=False,
        ),
        network=NetworkSection("ports", (5432,), (8000, 8001)),
        limits=LimitsSection(2.5, 60, 2 * 2**30, 64, 1024, 1000, 512 * 1024),
        environment=EnvironmentSection(("FOO",), (("A", "b"), ("C", ""))),
        process=ProcessSection(ptrace=True),
        enforcement=EnforcementSection(("files", "network"), best_effort=False),
        snapshots=SnapshotsSection(
            enabled=True,
            exclude=("node_modules", "/build/*.o"),
            quota=2 * 2**30,
            broad=False,
            rollback="confirm",
        ),
    )


def test_an_empty_policy_says_nothing() -> None:
    assert parse_text("", "x.toml") == Document()
    assert parse_text("extends = []", "x.toml").extends == ()
    assert parse_text('extends = "python"', "x.toml").extends == ("python",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "x.toml:1: not TOML: invalid value"),
        ("\n\n[a\n", "x.toml:3: not TOML: expected ']' at the end of a table declaration"),
        ("a = 1\na = 2\n", "x.toml:2: not TOML: cannot overwrite a value"),
        ("filesytem = 1", "x.toml:1: unknown key filesytem (did you mean filesystem?)"),
        (
            "\n[zzz]\n",
            (
                "x.toml:2: unknown key zzz (known are description, extends, filesystem, network, "
                "limits, environment, process, commands, enforcement, snapshots, audit, ask, agent)"
            ),
        ),
        (
            '[filesystem]\n\nallowed = ["/a"]',
            "x.toml:3: unknown key allowed in [filesystem] (did you mean allow?)",
        ),
        (
            "[process]\n'a\"b' = 1",
            "x.toml:2: unknown key 'a\"b' in [process] (known are ptrace)",
        ),
        (
            '[network]\nMode = "open"',
            "x.toml:2: unknown key Mode in [network] (did you mean mode?)",
        ),
        ("network = 1", "x.toml:1: network must be a table (write [network])"),
        ("[[limits]]", "x.toml:1: limits must be a table (write [limits])"),
        ("description = 1", "x.toml:1: description must be a string of at most 500 characters"),
        (
            f'description = "{"x" * 501}"',
            "x.toml:1: description must be a string of at most 500 characters",
        ),
        ("extends = 1", "x.toml:1: extends must be a profile's name or a list of them"),
        ("extends = [1]", "x.toml:1: extends must hold strings, not a number"),
        (
            'extends = ["default",\n "../x"]',
            (
                "x.toml:2: extends: ../x isn't a profile's name "
                "(lower-case letters, digits, dot, _ and -, a letter or digit first)"
            ),
        ),
        ('[filesystem]\nallow = "/a"', "x.toml:2: allow must be a list of paths, not a string"),
        ("[filesystem]\nallow = 3", "x.toml:2: allow must be a list of paths, not a number"),
        (
            '[filesystem]\nread = [\n  "/a",\n  true,\n]',
            "x.toml:4: read must hold strings, not true or false",
        ),
        (
            '[filesystem]\nread = [\n  "/a",\n\n  "data",\n]',
            "x.toml:5: read: data is a relative path (write $WORKSPACE/data)",
        ),
        (
            '[filesystem]\ndeny = ["$WORKSPCE/x"]',
            (
                "x.toml:2: deny: unknown variable '$WORKSPCE' "
                "(known are $WORKSPACE, $HOME, $TMPDIR; "
                "a name that begins with $ is written ./$...)"
            ),
        ),
        ('[filesystem]\ndeny = ["/a\\u0000"]', "x.toml:2: deny: $'/a\\x00' isn't a path"),
        (
            "filesystem.tools = 1",
            "x.toml:1: tools must be true or false, not a number",
        ),
        ('[network]\nmode = "on"', "x.toml:2: mode must be one of closed, ports, proxy, open"),
        ("[network]\nmode = true", "x.toml:2: mode must be one of closed, ports, proxy, open"),
        (
            "[network]\nbind_ports = 80",
            "x.toml:2: bind_ports must be a list of ports, not a number",
        ),
        (
            "[network]\nbind_ports = [80,\n0]",
            "x.toml:3: an element of bind_ports must be a whole number from 1 to 65535",
        ),
        (
            "[network]\nconnect_ports = [true]",
            "x.toml:2: an element of connect_ports must be a whole number from 1 to 65535",
        ),
        (
            '[network]\nmode = "closed"\nconnect_ports = [80]',
            (
                'x.toml:3: connect_ports says nothing where mode is "closed" '
                '(use mode = "ports", or leave it out)'
            ),
        ),
        (
            'network = { bind_ports = [80], mode = "open" }',
            (
                'x.toml:1: bind_ports says nothing where mode is "open" '
                '(use mode = "ports", or leave it out)'
            ),
        ),
        ("[limits]\ntimeout_s = 0", "timeout_s must be a number over 0 and at most 2592000"),
        ("[limits]\ntimeout_s = -1", "timeout_s must be a number over 0 and at most 2592000"),
        ("[limits]\ntimeout_s = nan", "timeout_s must be a number over 0 and at most 2592000"),
        ("[limits]\ncpu_s = inf", "cpu_s must be a number over 0 and at most 2592000"),
        ("[limits]\ncpu_s = true", "cpu_s must be a number over 0 and at most 2592000"),
        ('[limits]\ncpu_s = "5"', "cpu_s must be a number over 0 and at most 2592000"),
        ("[limits]\nmemory_max = 0", "memory_max must be a whole number from 1 to"),
        ("[limits]\nmemory_max = 1.5", "memory_max must be a whole number from 1 to"),
        (
            '[limits]\nmemory_max = "2GB"',
            'x.toml:2: memory_max: 2GB isn\'t a size (bytes, or a number and K, M, G or T: "2G")',
        ),
        ('[limits]\nmemory_max = "0"', "memory_max: 0 isn't a size"),
        ('[limits]\nmemory_max = ""', "memory_max: '' isn't a size"),
        ('[limits]\nmemory_max = "G"', "memory_max: G isn't a size"),
        ('[limits]\nmemory_max = "\u0662G"', "isn't a size"),
        ("[limits]\nprocesses_max = 4194305", "processes_max must be a whole number from 1 to"),
        (
            '[environment]\npass = ["A=B"]',
            (
                "x.toml:2: pass: A=B isn't the name of a variable "
                "(letters, digits and _, no digit first)"
            ),
        ),
        ("[environment]\nset = []", "x.toml:2: set must be a table of names and values"),
        (
            "[environment.set]\nA = 'x'\nB = 1",
            "x.toml:3: the value of B must be a string",
        ),
        ('[environment]\nset = { "a b" = "" }', "x.toml:2: 'a b' isn't the name of a variable"),
        ('[environment]\nset = { A = "\\u0000" }', "x.toml:2: the value of A holds a NUL byte"),
        (
            f'[environment]\nset = {{ A = "{"x" * 32001}" }}',
            "x.toml:2: the value of A is over 32000 characters",
        ),
        ("[process]\nptrace = 'yes'", "ptrace must be true or false, not a string"),
        (
            '[enforcement]\nrequire = ["files",\n"file"]',
            "x.toml:3: require: unknown guarantee file (known are files,",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_text(text, "x.toml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("x.toml:")


def test_a_list_has_an_end() -> None:
    text = "[filesystem]\nallow = [" + '"/a",' * 10_001 + "]"
    with pytest.raises(PolicyError, match=r"x\.toml:2: allow has over 10000 elements"):
        parse_text(text, "x.toml")
