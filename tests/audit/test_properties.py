"""Properties of the pure parts, against other implementations and brute force."""

import json
import string
from hashlib import sha256
from pathlib import Path

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nono_mcp.audit import canonical, notes, record, verify
from nono_mcp.audit.canonical import NotCanonicalError
from nono_mcp.audit.display import escape
from nono_mcp.audit.keys import Checker, SigningKey
from nono_mcp.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    Tree,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from nono_mcp.audit.redact import TEXT_BYTES_MAX, Redactor, opened_by
from nono_mcp.audit.walk import Reference
from tests.audit.adversary import Editor, Home, fill

names = st.text(string.ascii_letters + string.digits + ' _.$/"\\', max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(names, values, max_size=5)
anything = st.recursive(
    scalars | st.text(max_size=20) | st.floats() | st.binary(max_size=20) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(objects)
def test_canonical_json_is_rfc_8785(value: dict[str, object]) -> None:
    encoded = canonical.encode(value)
    assert encoded == rfc8785.dumps(value)  # type: ignore[arg-type]
    assert canonical.decode(encoded) == value


@given(st.binary(max_size=60) | st.text('{}[]":,\\u019ea tfn.-+eE', max_size=30).map(str.encode))
def test_what_decodes_is_what_rfc_8785_writes(body: bytes) -> None:
    try:
        value = canonical.decode(body)
    except NotCanonicalError:
        return
    assert rfc8785.dumps(value) == body  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}', b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":1.0}', b'{"a":-0}', b'{"a":1e2}',
        b'{"a":NaN}', b'{"a":9007199254740992}', b'{"a":"\\u0061"}', b'{"a":"\\/"}',
        b'{"a":"\\ud800"}', b'{"a":"\xed\xa0\x80"}', b'{"\xc3\xa4":1}', b'{"\x7f":1}', b"[]", b"",
        b'{"a":1}\n', b'{"a":1}{}', b'{"a":"\xc0\xaf"}', b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_not_canonical_is_refused(body: bytes) -> None:
    with pytest.raises(NotCanonicalError):
        canonical.decode(body)


def brute_root(leaves: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, as it is written there."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(brute_root(leaves[:split]), brute_root(leaves[split:]))


LEAVES = [leaf_hash(bytes([number])) for number in range(70)]


def test_the_frontier_knows_the_root_at_every_size() -> None:
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    for size, leaf in enumerate(LEAVES, start=1):
        frontier.append(leaf)
        assert frontier.root() == brute_root(LEAVES[:size])


@given(st.data())
def test_inclusion_proofs_hold_also_where_leaves_were_pruned(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 70))
    pruned = data.draw(st.integers(0, size - 1))
    base = Frontier()
    for leaf in LEAVES[:pruned]:
        base.append(leaf)
    tree = Tree(base, LEAVES[pruned:size])
    assert tree.root() == brute_root(LEAVES[:size])
    index = data.draw(st.integers(pruned, size - 1))
    proof = tree.inclusion(index)
    assert verify_inclusion(LEAVES[index], index, size, proof) == tree.root()
    wrong = data.draw(st.integers(0, 69).filter(lambda other: other != index))
    assert verify_inclusion(LEAVES[wrong], index, size, proof) != tree.root()
    assert verify_inclusion(LEAVES[index], wrong, size, proof) != tree.root()
    if proof:
        assert verify_inclusion(LEAVES[index], index, size, proof[:-1]) != tree.root()
    assert verify_inclusion(LEAVES[index], index, size, [*proof, EMPTY_ROOT]) != tree.root()


@given(st.data())
def test_consistency_proofs_hold(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, 70))
    old = data.draw(st.integers(1, new))
    tree = Tree(Frontier(), LEAVES[:new])
    proof = tree.consistency(old)
    before, after = brute_root(LEAVES[:old]), tree.root()
    assert verify_consistency(old, new, before, after, proof)
    if old < new:
        assert not verify_consistency(old, new, after, before, proof)
        assert not verify_consistency(old, new, before, after, proof[:-1])
        changed = [sha256(proof[0]).digest(), *proof[1:]]
        assert not verify_consistency(old, new, before, after, changed)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("log") / "state")
    with home.open() as log, log.session({}) as session:
        log.segment_bytes_max = 2500
        fill(session, 4, "a")
    return home


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_changed_byte_anywhere_shows(written: Home, data: st.DataObject) -> None:
    log = Editor(written.audit)
    name = data.draw(st.sampled_from(log.names))
    path = written.audit / name
    text = path.read_bytes()
    at = data.draw(st.integers(0, len(text) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != text[at]))
    path.write_bytes(text[:at] + bytes([byte]) + text[at + 1 :])
    try:
        report = verify.verify(str(written.path), written.keychain)
    finally:
        path.write_bytes(text)
    verdicts = (report.integrity.status, report.completeness.status, report.trust.status)
    assert "failed" in verdicts
    assert verdicts != ("ok", "ok", "ok")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_removed_or_inserted_bytes_show(written: Home, data: st.DataObject) -> None:
    log = Editor(written.audit)
    path = written.audit / data.draw(st.sampled_from(log.names))
    text = path.read_bytes()
    at = data.draw(st.integers(0, len(text) - 1))
    count = data.draw(st.integers(1, len(text) - at))
    inserted = data.draw(st.just(b"") | st.binary(min_size=1, max_size=40))
    changed = text[:at] + inserted + (text[at:] if inserted else text[at + count :])
    if (
        changed[: len(text)] == text
        and name_is_last(path, log)
        and b"\n" not in changed[len(text) :]
    ):
        return  # bytes after the last line: a torn write, which is nobody's fault
    path.write_bytes(changed)
    try:
        report = verify.verify(str(written.path), written.keychain)
    finally:
        path.write_bytes(text)
    assert "failed" in (report.integrity.status, report.completeness.status)


def name_is_last(path: Path, log: Editor) -> bool:
    return path.name == log.names[-1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40), st.binary(min_size=32, max_size=32), st.data())
def test_a_checkpoint_is_what_was_signed(size: int, root: bytes, data: st.DataObject) -> None:
    key, log_id = SigningKey(), "ab" * 16
    note = notes.sign_checkpoint(log_id, size, root, key.public, key.sign)
    checkpoint = notes.parse_checkpoint(note)
    assert (checkpoint.size, checkpoint.root) == (size, root)
    notes.require_signed(checkpoint, log_id, key.public, Checker())
    at = data.draw(st.integers(0, len(note) - 1))
    changed = note[:at] + bytes([note[at] ^ data.draw(st.integers(1, 255))]) + note[at + 1 :]
    with pytest.raises(notes.NoteError):
        notes.require_signed(notes.parse_checkpoint(changed), log_id, key.public, Checker())


@given(anything)
def test_whatever_is_cleaned_can_be_written_and_read_back(value: object) -> None:
    encoded = Redactor(b"s" * 32).encode({"x": value})
    assert canonical.encode(canonical.decode(encoded)) == encoded


SECRETS = {
    "anthropic": "sk-ant-api03-AAAAAAAAAAAAAAAAAAAAAAAA",
    "openai": "sk-proj-abcdefghijklmnopqrstuvwx",
    "github": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "slack": "xoxb-123456789012-abcdefghijkl",
    "google": "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "npm": "npm_abcdefghijklmnopqrstuvwxyz",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize(
    "shape",
    ["{}", "curl -H 'x-api-key: {}' https://api.example", "export KEY={};", '{{"k":"{}"}}'],
)
def test_a_secret_of_a_known_shape_is_nowhere(secret: str, shape: str) -> None:
    redactor = Redactor(b"s" * 32)
    text = shape.format(secret)
    encoded = redactor.encode({"argv": ["sh", "-c", text], "m": {text: text}})
    assert secret.encode() not in encoded
    assert b"[redacted:" in encoded


@pytest.mark.parametrize(
    ("fields", "secret"),
    [
        ({"argv": ["mysql", "--password", "hunter2!"]}, "hunter2!"),
        ({"argv": ["tool", "--api-key=0a1b2c3d4e"]}, "0a1b2c3d4e"),
        ({"command": "PGPASSWORD=hunter22 psql"}, "hunter22"),
        ({"command": "git clone https://user:hunter22@host/x"}, "hunter22"),
        ({"command": "curl -H 'Authorization: Bearer abcdefgh12345678'"}, "abcdefgh12345678"),
        ({"meta": {"api_key": "short"}}, "short"),
        ({"meta": {"Authorization": "Basic dXNlcjpwYXNz"}}, "dXNlcjpwYXNz"),
        (
            {"text": "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----"},
            "MIIabc",
        ),
        ({"text": "-----BEGIN PRIVATE KEY-----\nMIIabcdef"}, "MIIabcdef"),
        ({"name": b"token=\xff\xfehunter22"}, "hunter22"),
    ],
)
def test_a_secret_of_a_known_place_is_nowhere(fields: dict[str, object], secret: str) -> None:
    encoded = Redactor(b"s" * 32).encode(fields)
    assert secret.encode() not in encoded
    value = json.loads(encoded).get("name")
    assert value is None or "aHVudGVyMj" not in str(value)


def test_a_value_that_is_named_is_taken_out_in_every_encoding() -> None:
    redactor = Redactor(b"s" * 32)
    redactor.hide(['p"\\ä&word'])
    fields: dict[str, object] = {
        "a": 'x p"\\ä&word y', "b": "p%22%5C%C3%A4%26word", "c": "cCJcw6Qmd29yZA==",
    }  # fmt: skip
    encoded = redactor.encode(fields)
    assert encoded.count(b"[redacted:known:") == 3


def test_what_is_ordinary_stays() -> None:
    fields: dict[str, object] = {
        "argv": ["pytest", "-k", "test_tokenizer or basic", "--maxfail=1"],
        "cwd": "/home/u/secretariat",
        "command": "git log --author=me --since=yesterday && ls api",
        "url": "https://example.org/path",
    }
    assert Redactor(b"s" * 32).encode(fields) == canonical.encode(fields)


def test_equal_secrets_of_a_session_look_equal_and_of_two_do_not() -> None:
    one, two = Redactor(b"1" * 32), Redactor(b"2" * 32)
    text = f"KEY={SECRETS['aws']}"
    assert one.text(text) == one.text(text)
    assert one.text(text) != two.text(text)


def test_a_commitment_opens_to_its_value_alone() -> None:
    redactor = Redactor(b"s" * 32)
    value = "z" * (TEXT_BYTES_MAX + 1)
    data = json.loads(redactor.encode({"out": redactor.commit(b"hello"), "big": [value]}))
    assert opened_by(data, b"s" * 32, b"hello") == ["/out"]
    assert opened_by(data, b"s" * 32, value.encode()) == ["/big/0"]
    assert opened_by(data, b"s" * 32, b"hellp") == []
    assert opened_by(data, b"t" * 32, b"hello") == []


def test_redacting_takes_no_longer_than_the_text_is() -> None:
    """Texts made to trip patterns up; each would take minutes if one backtracked."""
    redactor = Redactor(b"s" * 32)
    for piece in (
        "a_",
        "token",
        "token=",
        "://",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "sk-",
        "._-",
    ):
        redactor.text(piece * (100_000 // len(piece)))


@given(st.text())
def test_nothing_escaped_acts_on_a_reader(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    if "\\" not in text and text.isprintable() and len(text) <= 400:
        assert shown == text


def test_a_reference_to_more_than_there_is_fails(written: Home) -> None:
    reference = Reference("a witness", 10**6, hash="ab" * 32)
    report = verify.verify_files(str(written.audit), references=[reference])
    assert report.completeness.status == "failed"
    assert record.FORMAT in Editor(written.audit).lines()[0].decode()


@given(st.lists(anything, max_size=4))
def test_what_was_seen_before_changes_nothing(values: list[object]) -> None:
    """The quick way round cleaning, and what it remembers, give what cleaning gives."""
    used = Redactor(b"s" * 32)
    for value in values:
        fresh = Redactor(b"s" * 32)
        assert used.encode({"x": value}) == canonical.encode(fresh.clean({"x": value}))
        assert used.encode({"x": [value], "y": "k"})


def test_a_known_name_is_no_value_and_a_known_value_no_name() -> None:
    redactor = Redactor(b"s" * 32)
    assert redactor.encode({"x": "$name"}) == b'{"x":"$name"}'
    assert redactor.encode({"$name": 1}) == b'{"%24name":1}'
    assert redactor.encode({"monkey": "abc"}) == b'{"monkey":"abc"}'
    assert b"hunter22" not in redactor.encode({"password": "hunter22"})
    redactor.hide(["innocent"])
    assert b"innocent" not in redactor.encode({"x": "innocent"})


def test_a_secret_that_is_named_late_is_taken_out_of_what_was_seen_before() -> None:
    redactor = Redactor(b"s" * 32)
    assert b"ordinary" in redactor.encode({"x": "ordinary"})
    redactor.hide(["ordinary"])
    assert b"ordinary" not in redactor.encode({"x": "ordinary"})


def test_a_signature_has_one_spelling() -> None:
    key, log_id = SigningKey(), "ab" * 16
    note = notes.sign_checkpoint(log_id, 7, b"r" * 32, key.public, key.sign)
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = note.rindex(b"=") - 1
    # Of a 68th byte's last letter two bits stand for nothing.
    other = letters[letters.index(note[last]) ^ 1]
    with pytest.raises(notes.NoteError, match="canonical"):
        notes.parse_checkpoint(note[:last] + bytes([other]) + note[last + 1 :])
