"""A directory that is patched is the one that would be made anew."""

from hypothesis import given
from hypothesis import strategies as st

from nono_mcp.snapshots import encoding, trees
from nono_mcp.snapshots.encoding import Entry

# Few letters, so that names are in each other, and in what else an entry holds.
NAMES = st.binary(min_size=1, max_size=3).map(lambda raw: bytes(b"ab"[each % 2] for each in raw))


@st.composite
def entries(draw: st.DrawFn) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name in draw(st.sets(NAMES)):
        # An attribute's value may be an entry of another name, as an attacker would have it.
        inside = draw(st.sampled_from([b"", name, *found.values()]))
        xattrs = encoding.encode_xattrs([(b"user.x", inside)]) if inside else b""
        entry = Entry(name, encoding.FILE, 0o644, 0, 0, 1, draw(st.integers(0, 9)), name, xattrs)
        found[name] = encoding.encode_entry(entry)
    return found


@given(entries(), entries(), st.sets(NAMES))
def test_what_is_put_in_and_taken_out_is_all_that_differs(
    before: dict[bytes, bytes], new: dict[bytes, bytes], gone: set[bytes]
) -> None:
    tree = b"".join(each for _, each in sorted(before.items()))
    changes = {**new, **dict.fromkeys(gone)}
    left = {name: each for name, each in {**before, **changes}.items() if each is not None}
    assert trees.patched(tree, changes) == b"".join(each for _, each in sorted(left.items()))
    assert trees.split_tree(trees.patched(tree, new)).keys() == before.keys() | new.keys()
