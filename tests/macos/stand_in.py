"""What stands in for sandbox-exec: it insists on how it is called, and becomes the program.

It writes down its arguments, which `calls` returns. After `judge`, it puts `kernel` before the text
of a program that is Python's, which then asks the profile what it may.
"""

from __future__ import annotations

import os
import py_compile
from pathlib import Path

import nono_sandbox

HERE = Path(__file__).parent
STAND_IN = """\
#!/bin/sh
[ $# -ge 4 ] && [ "$1" = -p ] && [ "$3" = -- ] || { echo "usage: -p TEXT -- PROGRAM" >&2; exit 64; }
case $2 in "(version 1)
(deny default)
"*) ;; *) echo "no profile" >&2; exit 65 ;; esac
case $4 in */*) ;; *) echo "not looked for on PATH" >&2; exit 71 ;; esac
[ $4 = /usr/bin/true ] || printf '%s\\0' "$@" >"$0.calls/$$"
shift 3
if [ -e "$0.judges" ] && [ "$4" = -c ]; then
  program=$1 code=$5
  shift 5
  exec "$program" -I -S -c "called = '$0.calls/$$'; exec(open('$0.judges').read())
$code" "$@"
fi
exec "$@"
"""
JUDGES = """\
import sys
sys.dont_write_bytecode = True
before = list(sys.path)
sys.path += {roots!r}
import kernel
kernel.install(open(called, encoding="utf-8", errors="surrogateescape").read().split("\\0")[1])
sys.path[:] = before
del kernel, before, called
"""


def install(directory: Path) -> None:
    """Put the stand-in into *directory*."""
    path = directory / "sandbox-exec"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    path.with_name("sandbox-exec.calls").mkdir(mode=0o777)


def judge(directory: Path) -> None:
    """Have what Pythons attempt under the stand-in in *directory* judged by their profiles."""
    roots = [str(HERE), str(Path(*nono_sandbox.__path__).parent)]
    # Once, since what is judged keeps nothing.
    py_compile.compile(str(HERE / "kernel.py"))
    (directory / "sandbox-exec.judges").write_text(JUDGES.format(roots=roots))


def calls(directory: Path) -> list[list[str]]:
    """Return with which arguments the stand-in was called, the first call first."""
    files = (directory / "sandbox-exec.calls").iterdir()
    ordered = sorted(files, key=lambda file: file.stat().st_mtime_ns)
    return [os.fsdecode(file.read_bytes()).split("\0")[:-1] for file in ordered]
