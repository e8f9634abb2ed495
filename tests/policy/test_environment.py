from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_mcp.policy.environment import HARMLESS, PATH_FALLBACK, allowed, search_path
from nono_mcp.policy.errors import PolicyError

DROPPED = """
ANTHROPIC_API_KEY OPENAI_API_KEY AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN GITHUB_TOKEN GH_TOKEN
NPM_TOKEN DB_PASSWORD MY_SECRET PGPASSWORD VAULT_TOKEN HF_TOKEN LC_SECRET CI_JOB_TOKEN
LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT DYLD_INSERT_LIBRARIES GCONV_PATH GLIBC_TUNABLES
PYTHONPATH PYTHONSTARTUP PYTHONHOME PYTHONBREAKPOINT NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS
BASH_ENV ENV SHELLOPTS BASHOPTS PS4 PROMPT_COMMAND IFS CDPATH GLOBIGNORE BASH_FUNC_ls%%
GIT_DIR GIT_SSH_COMMAND GIT_CONFIG_COUNT GIT_EXEC_PATH GIT_ASKPASS
SSH_AUTH_SOCK SSH_AGENT_PID SSH_ASKPASS SSH_CONNECTION GPG_AGENT_INFO GPG_TTY
DBUS_SESSION_BUS_ADDRESS XDG_RUNTIME_DIR DISPLAY WAYLAND_DISPLAY XAUTHORITY TMUX STY
PERL5LIB PERL5OPT RUBYOPT RUBYLIB JAVA_TOOL_OPTIONS _JAVA_OPTIONS CLASSPATH
HTTP_PROXY https_proxy ALL_PROXY NO_PROXY KUBECONFIG DOCKER_HOST VSCODE_IPC_HOOK_CLI
TERMCAP LESSOPEN OLDPWD MAIL XDG_CONFIG_HOME TMPDIR TMP TEMP HOME PWD
"""


@pytest.mark.parametrize("name", DROPPED.split())
def test_what_isnt_on_the_list_isnt_passed(name: str) -> None:
    assert name not in dict(allowed({name: "x"}))


@pytest.mark.parametrize("name", HARMLESS.split())
def test_what_is_on_the_list_is(name: str) -> None:
    assert dict(allowed({name: "x"}))[name] == "x"


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=5)))
def test_an_allow_list_knows_no_other_name(environ: dict[str, str]) -> None:
    assert set(dict(allowed(environ))) <= {"PATH", *HARMLESS.split()}


def test_the_person_passes_what_they_name_and_sets_what_they_give() -> None:
    environ = {"MY_TOKEN": "t", "LANG": "C", "HOME": "/home/ada"}
    values = dict(
        allowed(
            environ,
            passed=("MY_TOKEN", "ABSENT"),
            given=(("LANG", "C.UTF-8"), ("TMPDIR", "/mine"), ("EMPTY", "")),
            own=(("HOME", "/private"), ("TMPDIR", "/own")),
        )
    )
    assert values == {
        "MY_TOKEN": "t",
        "LANG": "C.UTF-8",
        "HOME": "/private",
        "TMPDIR": "/mine",
        "EMPTY": "",
        "PATH": PATH_FALLBACK,
    }


def test_the_result_is_sorted_and_the_same_every_time() -> None:
    environ = {"TZ": "UTC", "LANG": "C", "EDITOR": "ed"}
    assert [name for name, _ in allowed(environ)] == ["EDITOR", "LANG", "PATH", "TZ"]


@pytest.mark.parametrize("name", ["", "A=B", "A\0", "1A", "a b", "BASH_FUNC_x%%", "é", "x" * 256])
def test_a_name_that_is_none_is_an_error(name: str) -> None:
    with pytest.raises(PolicyError, match="isn't the name of a variable"):
        allowed({}, passed=(name,))
    with pytest.raises(PolicyError, match="isn't the name of a variable"):
        allowed({}, given=((name, "x"),))


@pytest.mark.parametrize("value", ["\0", "x" * 32_001])
def test_a_value_that_cant_be_passed_is_an_error(value: str) -> None:
    with pytest.raises(PolicyError, match="the value of A"):
        allowed({}, given=(("A", value),))


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("/usr/bin:/bin", "/usr/bin:/bin"),
        (":/usr/bin::.:bin:./x:/bin:", "/usr/bin:/bin"),
        ("/usr/bin:/usr/bin", "/usr/bin"),
        ("~/bin:/bin", "/bin"),
        ("", PATH_FALLBACK),
        (".:", PATH_FALLBACK),
    ],
)
def test_a_path_never_means_the_current_directory(text: str, entries: str) -> None:
    assert search_path(text) == entries
