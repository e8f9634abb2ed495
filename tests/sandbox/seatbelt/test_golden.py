"""The text of every shipped profile, as reviewed, for one person on one Mac.

A difference is either a mistake or a change that somebody reads line by line, by golden/README.md:
run this file with NONO_WRITE_GOLDEN=1 and look at what git shows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy.profiles import SHIPPED
from nono_sandbox.confinement import CLOSED, READ, WRITE, Confinement, Denial, Grant, Network
from nono_sandbox.seatbelt.evaluator import Profile, Query, Reading
from nono_sandbox.seatbelt.fixed import SYSTEM_GRANTS
from nono_sandbox.seatbelt.profile import GROUPS, profile

if TYPE_CHECKING:
    from nono_mcp.policy.document import Document

GOLDEN = Path(__file__).parent / "golden"
HOME = "/Users/u"
WORKSPACE = "/Users/u/ws"
TMPDIR = "/private/var/folders/xy/zzyzx/T/nono-1"

# What of a shipped profile's paths this Mac has; the rest is left out, as policy leaves it out.
PRESENT = {
    WORKSPACE,
    "/usr",
    "/bin",
    "/sbin",
    f"{HOME}/.claude",
    f"{HOME}/.claude.json",
    f"{HOME}/.codex",
    f"{HOME}/.local/bin",
    f"{HOME}/.nvm",
    f"{HOME}/.pyenv",
}
# One of each kind that policy closes inside a workspace.
DENIALS = (
    Denial(f"{WORKSPACE}/.env"),
    Denial(f"{WORKSPACE}/.git/config", WRITE),
    Denial(f"{WORKSPACE}/.git/hooks", WRITE),
    Denial("/bin/dd"),
)
KEYS = (
    ("allow", READ | WRITE, False),
    ("read", READ, False),
    ("write", WRITE, False),
    ("allow_file", READ | WRITE, True),
    ("read_file", READ, True),
    ("write_file", WRITE, True),
)
NAMES = sorted(set(SHIPPED) - {"system"})


def layers(name: str) -> list[Document]:
    document = SHIPPED[name]
    above = [layer for base in document.extends or () for layer in layers(base)]
    return [*above, document]


def confinement(name: str) -> Confinement:
    variables = {"$WORKSPACE": WORKSPACE, "~": HOME}
    grants = {Grant(TMPDIR, READ | WRITE), *SYSTEM_GRANTS}
    mode = CLOSED
    for document in layers(name):
        for key, access, exact in KEYS:
            for path in getattr(document.filesystem, key):
                first, slash, rest = path.partition("/")
                place = variables.get(first, first) + slash + rest
                if place in PRESENT:
                    grants.add(Grant(place, access, exact))
        mode = document.network.mode or mode
    ordered = sorted(grants, key=lambda grant: (grant.path, grant.exact, grant.access))
    return Confinement(WORKSPACE, tuple(ordered), DENIALS, network=Network(mode))


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_the_one_that_was_reviewed(name: str) -> None:
    text = profile(confinement(name))
    file = GOLDEN / f"{name}.sb"
    if os.environ.get("NONO_WRITE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_every_group_of_every_text_is_in_the_review() -> None:
    review = (GOLDEN / "README.md").read_text()
    reviewed = {row.split("|")[1].strip() for row in review.splitlines() if row.startswith("| ")}
    assert {group.name for group in GROUPS} == reviewed - {"group", "---"}


def test_there_is_a_text_for_every_shipped_profile() -> None:
    assert sorted(file.stem for file in GOLDEN.glob("*.sb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_order_of_the_confinement_doesnt_show_in_the_text(name: str) -> None:
    made = confinement(name)
    turned = made.replace(grants=made.grants[::-1], denials=made.denials[::-1])
    assert profile(turned) == profile(made)


SECRETS = (
    f"{HOME}/.ssh/id_ed25519",
    f"{HOME}/Library/Keychains/login.keychain-db",
    f"/System/Volumes/Data{HOME}/.ssh/id_ed25519",
    "/Library/Keychains/System.keychain",
    "/private/etc/master.passwd",
    "/private/var/db/dslocal/nodes/Default/users/u.plist",
    f"{WORKSPACE}/.env",
    "/dev/disk0",
    "/dev/rdisk0",
    "/dev/bpf0",
    "/dev/ttys000",
    "/.vol",
    "/Users/other/x",
    "/Volumes/Backup/x",
)
ESCAPES = (
    Query("file-write-create", path=f"{HOME}/.zshrc"),
    Query("file-write-create", path=f"{HOME}/Library/LaunchAgents/x.plist"),
    Query("file-write-create", path=f"{WORKSPACE}/.git/HOOKS/post-checkout"),
    Query("file-write-data", path=f"{WORKSPACE}/.git/config"),
    Query("file-write-unlink", path=f"{WORKSPACE}/.git"),
    Query("file-write-unlink", path=WORKSPACE),
    Query("file-write-setugid", path=f"{WORKSPACE}/x"),
    Query("file-link", path=f"{WORKSPACE}/x"),
    Query("file-mount", path=f"{WORKSPACE}/x"),
    Query("process-exec", path="/bin/dd"),
    Query("process-exec", path=f"{HOME}/Downloads/x"),
    Query("network-outbound", path="/private/var/run/docker.sock"),
    Query("network-outbound", path=f"{HOME}/.docker/run/docker.sock"),
    Query("network-outbound", path="/private/tmp/com.apple.launchd.x/Listeners"),
    Query("mach-lookup", name="com.apple.SecurityServer"),
    Query("mach-lookup", name="com.apple.securityd.xpc"),
    Query("mach-lookup", name="com.apple.coreservices.launchservicesd"),
    Query("mach-lookup", name="com.apple.pasteboard.1"),
    Query("mach-lookup", name="com.apple.cfprefsd.agent"),
    Query("mach-register", name="com.example.x"),
    Query("appleevent-send"),
    Query("lsopen"),
    Query("iokit-open"),
    Query("signal"),
    Query("process-info-pidinfo"),
    Query("mach-priv-task-port", same_sandbox=True),
    Query("sysctl-read", name="kern.procargs2"),
    Query("sysctl-write", name="kern.hostname"),
    Query("sysctl-read", name="kern.proc.all"),
    Query("sysctl-read", name="kern.proc.pid.1"),
    Query("forbidden-exec-sugid", path="/usr/bin/sudo"),
    Query("file-read-data", path="/dev"),
    Query("file-read-data", path="/Library/Internet Plug-Ins"),
    Query("file-read-metadata", path="/dev/disk0"),
    Query("nvram-set"),
    Query("system-kext-load"),
    Query("job-creation"),
)


@pytest.mark.parametrize("reading", Reading)
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_lets_nobody_out(name: str, reading: Reading) -> None:
    judged = Profile(profile(confinement(name)))
    reads = [
        Query(operation, path=path)
        for path in SECRETS
        for operation in ("file-read-data", "file-read-metadata", "file-write-data")
    ]
    let = [query for query in (*reads, *ESCAPES) if judged.decide(query, reading).allowed]
    assert let == []


NEEDS = (
    Query("file-read-data", path="/"),
    Query("file-read-metadata", path=HOME),
    Query("file-read-metadata", path="/private/var"),
    Query("file-read-metadata", path="/var"),
    Query("file-map-executable", path="/System/Volumes/Preboot/Cryptexes/OS/dyld_shared_cache"),
    Query("file-map-executable", path="/usr/lib/dyld"),
    Query("process-exec", path="/bin/sh"),
    Query("process-exec", path="/opt/homebrew/bin/node"),
    Query("process-fork"),
    Query("file-read-data", path=f"{WORKSPACE}/src/x"),
    Query("file-write-create", path=f"{TMPDIR}/x"),
    Query("file-write-data", path="/dev/null"),
    Query("file-ioctl", path="/dev/ttys004"),
    Query("signal", same_sandbox=True),
    Query("sysctl-read", name="hw.ncpu"),
    Query("sysctl-read", name="hw.optional.neon"),
    Query("sysctl-read", name="kern.sysv.semmni"),
    Query("sysctl-write", name="kern.grade_cputype"),
    Query("file-read-metadata", path="/dev"),
    Query("file-read-metadata", path="/private/etc/resolv.conf"),
    Query("file-read-data", path="/Library/Preferences/com.apple.dt.Xcode.plist"),
    Query("file-read-data", path="/private/var/select/sh"),
    Query("ipc-posix-sem", name="/mp-a_b"),
    Query("mach-lookup", name="com.apple.system.opendirectoryd.libinfo"),
)


@pytest.mark.parametrize("name", NAMES)
def test_an_equal_name_is_closed_where_one_could_be_made(name: str) -> None:
    """Where none can be made, `places` sees to it that the denial has the stored spelling."""
    made = confinement(name)
    judged = Profile(profile(made))
    writable = any(grant.path == WORKSPACE and grant.access & WRITE for grant in made.grants)
    for path in (f"{WORKSPACE}/.ENV", f"/System/Volumes/Data{WORKSPACE}/.Env"):
        for operation in ("file-read-data", "file-write-create"):
            allowed = judged.decide(Query(operation, path=path)).allowed
            assert allowed is (not writable and operation == "file-read-data")


@pytest.mark.parametrize("reading", Reading)
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_lets_a_program_start_and_work(name: str, reading: Reading) -> None:
    judged = Profile(profile(confinement(name)))
    assert [query for query in NEEDS if not judged.decide(query, reading).allowed] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_open_only_where_the_profile_says_so(name: str) -> None:
    judged = Profile(profile(confinement(name)))
    ways = (
        Query("network-outbound", protocol="tcp", port=443, here=False),
        Query("network-outbound", protocol="udp", port=53, here=False),
        Query("network-outbound", protocol="tcp", port=80, here=True),
        Query("network-bind", protocol="tcp", port=3000),
        Query("network-outbound", path="/private/var/run/mDNSResponder"),
        Query("mach-lookup", name="com.apple.SystemConfiguration.DNSConfiguration"),
        Query("system-socket", domain="AF_INET"),
    )
    open_network = confinement(name).network.mode != CLOSED
    assert {judged.decide(way).allowed for way in ways} == {open_network}
