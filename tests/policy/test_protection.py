from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_mcp.policy import persistence, protected, protected_system
from nono_mcp.policy.paths import Place
from nono_mcp.policy.protection import Catalogue, Names, Scope, look, matches
from nono_sandbox.confinement import READ, WRITE

if TYPE_CHECKING:
    from tests.policy.conftest import Machine

HOME = "/home/ada"

# What nono, sandbox-runtime and Codex close, and what they forget.
HIDDEN = """
.ssh/id_rsa .gnupg/private-keys-v1.d .aws/credentials .azure .config/gcloud/credentials.db .kube
.docker/config.json .git-credentials .netrc .npmrc .pypirc .config/gh/hosts.yml .config/hub
.terraform.d .vault-token .password-store .1password .config/op .local/share/keyrings
.cargo/credentials .cargo/credentials.toml .gem .m2/settings.xml .m2/settings-security.xml
.config/rclone .config/doctl .config/stripe .config/fly .config/heroku
.mozilla/firefox .config/google-chrome .config/google-chrome-beta .config/chromium
.bash_history .zsh_history .python_history .psql_history .node_repl_history .local/share/fish
.claude .claude.json .claude.json.backup .codex/auth.json .gemini .electrum .bitcoin
.config/Code .pgpass .my.cnf .local/share/uv/credentials .cache/huggingface/token .Xauthority
.config/nono-token
"""
UNWRITTEN = """
.bashrc .bash_profile .profile .zshrc .zshenv .config/fish/config.fish .config/autostart/x.desktop
.config/systemd/user/x.service .gitconfig .config/git/config .vimrc .config/nvim .tmux.conf
.local/bin/tool bin/tool .cargo/bin/cargo .pyenv .local/lib/python3.11 .cargo/config.toml .mcp.json
"""
SYSTEM = """
/etc/shadow /etc/shadow- /etc/gshadow /etc/sudoers /etc/sudoers.d/x /etc/ssh/ssh_host_rsa_key
/etc/ssl/private/x /etc/krb5.keytab /etc/wireguard/wg0.conf /run/secrets/x /var/run/secrets/x
/etc/NetworkManager/system-connections/x /etc/docker/key.json /var/lib/kubelet /root/x
/run/docker.sock /run/containerd/x /run/dbus/x /run/user/1000/bus /tmp/ssh-abc/agent
/tmp/.X11-unix/X0 /tmp/tmux-0/default /var/run/docker.sock /etc/letsencrypt/live
"""
OPEN = """
.config .cache .local .cargo .cargo/registry .codex/worktrees .cursor/worktrees .m2/repository
.sshx .config/ghx projects .npm .config/gitx history.txt
"""


def catalogue(**environ: str) -> Catalogue:
    return Catalogue(HOME, environ)


@pytest.mark.parametrize("path", HIDDEN.split())
def test_credentials_are_neither_read_nor_written(path: str) -> None:
    entry = catalogue().match(f"{HOME}/{path}")
    assert entry is not None
    assert entry.access == READ | WRITE


@pytest.mark.parametrize("path", UNWRITTEN.split())
def test_what_runs_later_isnt_written(path: str) -> None:
    entry = catalogue().match(f"{HOME}/{path}")
    assert entry is not None
    assert entry.access == WRITE


@pytest.mark.parametrize("path", SYSTEM.split())
def test_the_secrets_and_sockets_of_the_system_are_closed(path: str) -> None:
    entry = catalogue().match(path)
    assert entry is not None
    assert entry.access == READ | WRITE


@pytest.mark.parametrize("path", OPEN.split())
def test_what_is_near_is_not_protected(path: str) -> None:
    entry = catalogue().match(f"{HOME}/{path}")
    assert entry is None or entry.access == 0


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"XDG_CONFIG_HOME": "/conf"}, "/conf/gh/hosts.yml"),
        ({"XDG_CONFIG_HOME": "/conf/"}, "/conf/gcloud"),
        ({"XDG_DATA_HOME": "/data"}, "/data/keyrings/login"),
        ({"CARGO_HOME": "/cargo"}, "/cargo/credentials.toml"),
        ({"KUBECONFIG": "/a/one:/b/two"}, "/b/two"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/work/sa.json"}, "/work/sa.json"),
        ({"SSH_AUTH_SOCK": "/tmp/x/agent"}, "/tmp/x/agent"),  # noqa: S108 - a name only
        ({"DOCKER_CONFIG": "/d/"}, "/d/config.json"),
    ],
)
def test_the_environment_says_where_else_they_are(environ: dict[str, str], path: str) -> None:
    assert catalogue(**environ).match(path) is not None
    assert catalogue(**environ).match(f"{HOME}/.config/gh") is not None
    assert catalogue().match(path) is None


def test_a_mac_has_more() -> None:
    mac = Catalogue("/Users/ada", {}, macos=True)
    assert mac.match("/Users/ada/Library/Application Support/Google/Chrome") is not None
    assert mac.match("/Users/ada/Library/Keychains/login.keychain-db") is not None


def test_tables_hold_paths_that_can_be_looked_for() -> None:
    tables = (
        *protected.CREDENTIALS,
        *persistence.PERSISTENCE,
        *persistence.FAMILIES,
        *protected_system.SYSTEM,
        *protected_system.SOCKETS,
        *protected_system.MACOS,
    )
    for what, access, by_directory in tables:
        assert what
        assert access in (0, WRITE, READ | WRITE)
        for directory, names in by_directory.items():
            assert "*" not in directory
            assert directory == "/" or not directory.endswith("/")
            assert names.strip()
            assert "/" not in names


@given(
    st.text(st.sampled_from("ab."), max_size=8),
    st.text(st.sampled_from("ab.*"), max_size=6),
)
def test_a_star_is_any_run_of_characters(name: str, pattern: str) -> None:
    assert matches(name, pattern) == fnmatch.fnmatchcase(name, pattern)


def present(home: str, listings: dict[str, tuple[str, ...]], granted: str) -> set[str]:
    """Return what is found protected on a machine that folds case and holds *listings*."""
    scope = Scope(home, {granted: READ | WRITE})
    names = Names(scope, lambda directory: listings.get(directory, ()))

    def resolve(path: str) -> Place:
        directory, _, name = path.rpartition("/")
        there = {one.lower() for one in listings.get(directory or "/", ())}
        return Place(path, path, "directory" if name.lower() in there else "", (1, hash(path)))

    found = look(Catalogue(home, {}), scope, names, resolve)
    return {one.place.path.lower() for one in found.present}


def test_a_protected_name_in_another_case_is_found_where_case_is_folded() -> None:
    listings = {
        "/home": ("ada",),
        HOME: (".SSH", ".xauthority", ".Config", "Projects"),
        f"{HOME}/.config": ("bravesoftware", "code - OSS", "other"),
    }
    assert present(HOME, listings, "/home") == {
        f"{HOME}/.ssh",
        f"{HOME}/.xauthority",
        f"{HOME}/.config/bravesoftware",
        f"{HOME}/.config/code - oss",
    }


def test_a_home_isnt_closed_by_being_somebodys() -> None:
    listings = {"/": ("root", "etc"), "/root": (".ssh",), "/etc": ("shadow",)}
    assert present("/root", listings, "/") == {"/root/.ssh", "/etc/shadow"}
    assert present(HOME, listings, "/") == {"/root", "/etc/shadow"}


def test_a_protected_name_in_another_case_is_another_name_elsewhere(machine: Machine) -> None:
    # On a file system that folds case `.ssh` opens `.SSH`; on this one it's another name.
    machine.write(".SSH/id_rsa")
    prepared = machine.prepare(flags=machine.flags(read=("~",)))
    denied = {denial.path for denial in prepared.confinement.denials}
    folds = (machine.home / ".ssh").exists()
    assert (str(machine.home / ".SSH") in denied or str(machine.home / ".ssh") in denied) == folds
