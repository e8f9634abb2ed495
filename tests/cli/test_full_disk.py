"""A call that is about to fill a disk is ended, unless it was said how much it may add."""

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import LONG_ENOUGH_S, NONO, Person

pytestmark = pytest.mark.linux
SAID = "nono: ended: it all but filled the disk it writes to (--max-disk says what it may add)"
# Small, and nobody else's: of a mount namespace of its own, it goes with the last process in it.
IN_A_DISK_OF_ITS_OWN = """
    set -e
    mount -t tmpfs -o "size=$1,nr_inodes=$2,mode=755" none "$PWD"
    shift 2
    cd "$PWD"
    mkdir work
    cd work
    """
# Each goes on slowly once it's time to be ended: whoever is to see that may be late.
BYTES = """
    for i in $(seq 25); do head -c 500000 /dev/zero > big$i || exit 3; sleep 0.01; done
    for i in $(seq 400); do head -c 16384 /dev/zero > little$i || exit 3; sleep 0.2; done
    """
FILES = """
    for i in $(seq 450); do : > f$i || exit 3; case $i in *0) sleep 0.01;; esac; done
    for i in $(seq 450 700); do : > f$i || exit 3; sleep 0.3; done
    """
# Nobody has it open, and no name leads to it.
MAPPED = """
    cat > grow.py <<'end'
import mmap, os, time
size = 15 << 20
fd = os.open("hidden", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, size)
hidden = mmap.mmap(fd, size)
os.unlink("hidden")
os.closerange(3, 64)
for at in range(0, size, 1 << 16):
    hidden[at:at + (1 << 16)] = b"x" * (1 << 16)
    time.sleep(0.002 if at < 12 << 20 else 1)
end
    exec /usr/bin/python3 grow.py
    """


def in_a_disk(
    person: Person, size: str, files: str, script: str, *words: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run a shell script, *words* its arguments, in an empty directory of a disk."""
    namespaces = ("-m",) if os.geteuid() == 0 else ("-r", "-m")
    return subprocess.run(
        [
            "unshare",
            *namespaces,
            "sh",
            "-c",
            IN_A_DISK_OF_ITS_OWN + script,
            "sh",
            size,
            files,
            *words,
        ],
        capture_output=True,
        check=False,
        cwd=person.workspace,
        encoding="utf-8",
        env=person.environment(),
        timeout=LONG_ENOUGH_S,
    )


@pytest.mark.claim("limits.disk-free")
@pytest.mark.parametrize(
    ("size", "files", "script"),
    [
        ("16m", "10000", BYTES),
        ("64m", "600", FILES),
        ("16m", "10000", MAPPED),
    ],
    ids=["bytes", "files", "mapped"],
)
def test_a_call_ends_before_the_disk_is_full(
    person: Person, tier: str, size: str, files: str, script: str
) -> None:
    run = (NONO, "run", "--tier", tier, "--allow-cwd", "--", "sh", "-c", script)
    free = '; status=$?; stat -f -c "%a %f %c %d" .; exit $status'
    done = in_a_disk(person, size, files, 'set +e; "$@"' + free, *run)
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (137, [SAID]), done
    blocks, _, _, nodes = map(int, done.stdout.split())
    assert blocks > 0
    assert nodes > 0


@pytest.mark.claim("limits.disk-free")
def test_who_was_told_how_much_it_may_add_may_fill_the_disk(person: Person, tier: str) -> None:
    fill = "for i in $(seq 100); do head -c 500000 /dev/zero > big$i || exit 3; sleep 0.01; done"
    run = (NONO, "run", "--tier", tier, "--allow-cwd", "--max-disk", "1G", "--", "sh", "-c", fill)
    done = in_a_disk(person, "16m", "10000", 'exec "$@"', *run)
    assert done.returncode == 3, done
    assert SAID not in done.stderr


@pytest.mark.claim("limits.disk-free")
def test_a_call_isnt_ended_for_what_another_program_adds(person: Person, tier: str) -> None:
    script = """
        sleep 0.3  # it is looked at first, with the disk empty
        echo a little > mine
        while [ ! -e going ]; do sleep 0.01; done
        sleep 0.5
        """
    others = """
        "$@" & call=$!
        while [ ! -e mine ]; do sleep 0.01; done
        head -c 15000000 /dev/zero > ../others
        touch going
        wait $call
        """
    run = (NONO, "run", "--tier", tier, "--allow-cwd", "--", "sh", "-c", script)
    done = in_a_disk(person, "16m", "10000", others, *run)
    assert done.returncode == 0, done
