"""Verification: three verdicts that aren't folded into one (FORMAT.md section 8)."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from nono_mcp.audit import files, heads
from nono_mcp.audit.create import DIRECTORY
from nono_mcp.audit.keys import Checker
from nono_mcp.audit.keystore import FileKeystore, Keystore, KeystoreError
from nono_mcp.audit.snapshot import LogFiles
from nono_mcp.audit.walk import Reference, Report, Walk


def verify(
    state_dir: str,
    keychain: Keystore | None,
    *,
    root: str | None = None,
    anchors: Sequence[bytes] = (),
    signatures: bool = True,
) -> Report:
    """Verify the log in *state_dir* against what this machine remembers, and *anchors*.

    Raises:
        AuditPathError: The directory isn't safely ours.
        NoteError: An anchor is no checkpoint.
        OSError: It can't be read.
    """
    directory = str(Path(state_dir) / DIRECTORY)
    remembered, doubts = _remembered(directory, keychain)
    if keychain is None:
        doubts.append("keychain: there is none to ask")
    # The keychain's word before the file's.
    known_root = root or next((head.root for _, head in reversed(remembered)), None)
    references = [Reference(by, head.size, hash=head.hash) for by, head in remembered]
    report = verify_files(
        directory,
        root=known_root,
        references=references,
        anchors=anchors,
        signatures=signatures,
        unreachable=tuple(doubts),
        root_is_weak=root is None,
    )
    if root is None and remembered and all(by == FileKeystore.label for by, _ in remembered):
        report.warnings.append("only a file beside the log remembers its root and its length")
    return report


def _remembered(
    directory: str, keychain: Keystore | None
) -> tuple[list[tuple[str, heads.Head]], list[str]]:
    """Return the heads on this machine, before the log is read: it may only grow after."""
    found: list[tuple[str, heads.Head]] = []
    doubts: list[str] = []
    stores: list[Keystore] = []
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(FileNotFoundError):
            dir_fd = files.open_directory(directory, create=False)
            stack.callback(os.close, dir_fd)
            keys_fd = files.open_directory(files.KEYS, create=False, dir_fd=dir_fd)
            stack.callback(os.close, keys_fd)
            stores.append(FileKeystore(keys_fd))
        if keychain is not None:
            stores.append(keychain)
        for store in stores:
            try:
                head = heads.read_head(store)
            except KeystoreError as error:
                doubts.append(str(error))
                continue
            if head is not None:
                found.append((store.label, head))
            elif store is keychain:
                doubts.append("keychain: it remembers no log here")
    return found, doubts


def verify_files(  # noqa: PLR0913 - what is to be compared with; all but the first by name
    directory: str,
    *,
    root: str | None = None,
    references: Sequence[Reference] = (),
    anchors: Sequence[bytes] = (),
    signatures: bool = True,
    unreachable: Sequence[str] = (),
    root_is_weak: bool = False,
) -> Report:
    """Verify the log in *directory*, wherever it came from, against what is given.

    *unreachable* says why a keychain couldn't be asked; a log that has one isn't complete without
    its word, nor trusted if the root is only what lies beside the log (*root_is_weak*).

    Raises:
        NoteError: An anchor is no checkpoint.
        OSError: The log can't be read.
    """
    checker = Checker()
    walk = Walk(checker, references, anchors, signatures=signatures)
    try:
        with LogFiles.open(directory) as found:
            walk.follow(found)
    except FileNotFoundError:
        walk.missing = "the log isn't there"
    return walk.judge(root, unreachable, root_is_weak=root_is_weak)
