"""Write tests/vectors/audit: `python -m tests.audit.make_vectors [NAME]...`; new keys always."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from nono_mcp.audit import verify
from nono_mcp.audit.keys import SigningKey
from nono_mcp.audit.prune import prune
from tests.audit.adversary import Editor, Home, fill, flip, forged, place_after

VECTORS = Path(__file__).parents[1] / "vectors" / "audit"
Edit = Callable[[Home, Editor], object]


def crlf(_home: Home, log: Editor) -> None:
    log.put(5, log.get(5)[:-1] + b"\r\n")


def recomputed(_home: Home, log: Editor) -> None:
    log.change(log.find("call.end", 1), lambda body: body["data"].update(outcome="error"))
    log.rechain()


def member_twice(_home: Home, log: Editor) -> None:
    log.replace_in(5, b'{"body":{', b'{"body":{"data":{},')


def member_name(_home: Home, log: Editor) -> None:
    log.change(5, lambda body: body["data"].update({"n\u00e4me": 1}))


def swapped(_home: Home, log: Editor) -> None:
    four, five = log.get(4), log.get(5)
    log.put(4, five)
    log.put(5, four)


def inserted(_home: Home, log: Editor) -> None:
    session = json.loads(log.get(5))["body"]["session"]
    log.insert(6, forged("guard", {}, place_after(log.get(5), session), SigningKey()))
    log.rechain()


def torn(_home: Home, log: Editor) -> None:
    """A torn write after the head: no fault of anybody's."""
    log.segments[-1].append(log.segments[-1][-1][:-30])


def empty_next(home: Home, log: Editor) -> None:
    """The writer died between a segment's end and the next segment's first record."""
    (home.audit / f"{len(log.lines()):016d}.jsonl").touch()


def middle_missing(home: Home, log: Editor) -> None:
    (home.audit / log.names.pop(1)).unlink()
    del log.segments[1]


def pruned(home: Home, log: Editor) -> None:
    with home.open() as open_log, open_log.session({}) as session:
        open_log.clock = lambda: 4_000_000_000 * 10**9
        assert prune(open_log, session, keep_days=1).records
    log.read()


def pruned_forged(home: Home, log: Editor) -> None:
    pruned(home, log)
    path = home.audit / "pruned.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"client":"one"', b'"client":"two"'))


def clock(home: Home, log: Editor) -> None:
    """A record with an earlier time than the one before: warned about, no more."""
    with home.open() as open_log, open_log.session({}) as session:
        open_log.clock = lambda: 10**18
        fill(session, 1, "early")
    log.read()


def fallback(home: Home, log: Editor) -> None:
    """A session that began while the keychain was locked."""
    home.backend.locked = True
    with home.open() as open_log, open_log.session({}) as session:
        fill(session, 1, "locked")
    home.backend.locked = False
    log.read()


def fallback_unsaid(home: Home, log: Editor) -> None:
    """A session by the key file alone, as if the log had no keychain."""
    with home.open() as open_log:
        store = open_log.stores["file"]
        open_log._choose = lambda: (store, None)  # type: ignore[method-assign] # noqa: SLF001 - a forger's
        with open_log.session({}) as session:
            fill(session, 1, "forged")
    log.read()


CASES: dict[str, tuple[str, Edit]] = {
    "plain": ("Two sessions that overlap, in several segments.", lambda _home, _log: None),
    "bit_flipped": ("A bit of record 5.", lambda _home, log: log.put(5, flip(log.get(5), 40))),
    "signature_flipped": (
        "A bit of the last signature.",
        lambda _home, log: log.put(len(log.lines()) - 1, flip(log.lines()[-1], -20)),
    ),
    "recomputed": ("A record edited, every hash after it computed anew.", recomputed),
    "member_twice": ("A duplicate member that a lax reader takes.", member_twice),
    "member_name": ("A member name that isn't ASCII.", member_name),
    "crlf": ("One line ends in CR LF.", crlf),
    "space": ("A space in the JSON.", lambda _home, log: log.replace_in(5, b'":', b'": ')),
    "swapped": ("Records 4 and 5 changed places.", swapped),
    "deleted": ("Record 6 was taken out.", lambda _home, log: log.delete(6)),
    "duplicated": ("Record 5 stands there twice.", lambda _home, log: log.insert(6, log.get(5))),
    "inserted": ("A record by a key of the editor's own.", inserted),
    "tail_cut": (
        "The last record is missing.",
        lambda _home, log: log.segments[-1].pop(),
    ),
    "tail_torn": ("A torn write at the end, beyond the head.", torn),
    "segment_empty": ("An empty last segment.", lambda _home, log: log.segments[-1].clear()),
    "segment_missing": ("The second segment is missing.", middle_missing),
    "pruned": ("The oldest segments were pruned as they should be.", pruned),
    "pruned_forged": ("pruned.jsonl was edited.", pruned_forged),
    "clock_set_back": ("The clock was set back.", clock),
    "fallback_unsaid": (
        "A session introduced by the file ratchet that doesn't say why.",
        fallback_unsaid,
    ),
    "fallback": ("A session introduced by the file ratchet, and why.", fallback),
}


def history(home: Home) -> None:
    with home.open() as log:
        log.segment_bytes_max = 2200
        one = log.session({"client": "one"})
        fill(one, 3, "a")
        two = log.session({"client": "two"})
        fill(two, 1, "b")
        fill(one, 1, "c")
        two.close()
        one.close()


def write(name: str, comment: str, edit: Edit) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        home = Home(Path(temporary) / "state")
        history(home)
        log = Editor(home.audit)
        edit(home, log)
        log.save()
        report = verify.verify(str(home.path), home.keychain)
        head = home.backend.stored("head")
        target = VECTORS / name
        shutil.rmtree(target, ignore_errors=True)
        (target / "log").mkdir(parents=True)
        for path in home.audit.glob("*.jsonl"):
            (target / "log" / path.name).write_bytes(path.read_bytes())
        lines = [
            f"comment: {comment}",
            f"integrity: {report.integrity.status}",
            f"completeness: {report.completeness.status}",
            f"trust: {report.trust.status}",
            f"root: {head['root']}",
            f"head: {head['size']} {head['hash']}",
            f"size: {report.size}",
            *([f"bad: {report.bad.seq}"] if report.bad else []),
        ]
        (target / "expect").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        write(name, *CASES[name])
