from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nono_mcp.policy.expand import apart
from nono_mcp.policy.granted import Granted
from nono_mcp.policy.paths import Place, covers
from nono_sandbox.confinement import READ, WRITE, Denial, Grant

directories = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)
paths = st.builds(lambda path, file: f"/{path}{file}", directories, st.sampled_from(["", "/f"]))
accesses = st.sampled_from([READ, WRITE, READ | WRITE])
# What is a file is one to every grant, and `f` is one.
grants = st.lists(
    st.builds(lambda path, given: Grant(path, given, path.endswith("/f")), paths, accesses),
    max_size=8,
)


def access(given: list[Grant], path: str) -> int:
    """Say it in one line: what is granted at a path is granted there or around it."""
    found = 0
    for grant in given:
        if path == grant.path if grant.exact else covers(grant.path, path):
            found |= grant.access
    return found


@given(grants, paths)
def test_putting_grants_together_changes_no_answer(given_grants: list[Grant], path: str) -> None:
    together = Granted(given_grants).grants
    assert access(together, path) == access(given_grants, path)


@given(grants)
def test_no_grant_is_left_that_adds_nothing(given_grants: list[Grant]) -> None:
    together = Granted(given_grants).grants
    for grant in together:
        others = [one for one in together if one != grant]
        assert access(others, grant.path) != access(together, grant.path)


@given(grants)
def test_a_grants_access_is_all_that_holds_at_its_path(given_grants: list[Grant]) -> None:
    # Binds are laid over each other: the innermost alone says what a path's access is.
    together = Granted(given_grants).grants
    for grant in together:
        if not grant.exact:
            assert grant.access == access(given_grants, grant.path)


@given(grants, paths)
def test_the_nearest_granted_directory_is_found(given_grants: list[Grant], path: str) -> None:
    granted = Granted(given_grants)
    around = [g.path for g in granted.grants if not g.exact and covers(g.path, path)]
    assert granted.around(path) == max(around, key=len, default=None)


TREE = {
    "/": ["a", "b"],
    "/a": ["a", "b", "c"],
    "/a/a": ["a", "b"],
    "/a/b": ["a"],
    "/b": ["a", "c"],
}


def children(directory: str) -> list[Place]:
    found = [f"{directory.rstrip('/')}/{name}" for name in TREE.get(directory, ())]
    return [Place(path, path, "directory" if path in TREE else "file") for path in found]


def everything(directory: str = "/") -> list[str]:
    below = [place.path for place in children(directory)]
    return [path for one in below for path in (one, *everything(one))]


@given(
    st.sets(st.sampled_from([path for path in TREE if path != "/"]), max_size=3),
    st.sets(st.sampled_from(everything()), max_size=3),
)
def test_taken_apart_a_grant_gives_all_but_what_is_closed(
    granted: set[str], closed: set[str]
) -> None:
    before = Granted(Grant(path, READ) for path in granted).grants
    denials = [Denial(path) for path in closed]
    after = apart(before, denials, children)
    for path in everything():
        inside = any(covers(denial.path, path) for denial in denials)
        around = any(covers(path, denial.path) for denial in denials)
        if inside or around:
            # A directory that holds something closed can't be granted, since grants reach down.
            assert not access(after, path)
        else:
            assert access(after, path) == access(before, path)
