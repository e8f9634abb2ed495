"""Everyday programs under the filter, as root and as an ordinary user.

The filter is all that holds them here: no Landlock, no namespaces. What fails is the filter's
fault.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nono_sandbox.seccomp import Options, base_filter

pytestmark = pytest.mark.linux

Confined = Callable[..., Any]

ARCH = os.uname().machine
OWN = base_filter(Options(own_network=True, own_ipc=True, own_pids=True), ARCH)
ALONE = base_filter(Options(), ARCH)
TRACING = base_filter(Options(own_network=True, own_ipc=True, own_pids=True, ptrace=True), ARCH)
# An interpreter that an ordinary user can read too, which one in a home directory isn't.
PYTHON = (
    os.path.realpath("/usr/bin/python3") if Path("/usr/bin/python3").exists() else sys.executable
)

either = pytest.mark.parametrize("program", [OWN, ALONE], ids=["own", "alone"])


def needs(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing) and "CI" not in os.environ, reason=f"no {missing}")


def run(confined: Confined, yard: Path, program: bytes, *argv: str) -> str:
    """Run *argv* in *yard* under *program* and return all it wrote, having succeeded."""

    def work() -> tuple[int, str]:
        environment = {
            "HOME": str(yard),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "SHELL": "/bin/sh",
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        finished = subprocess.run(
            argv,
            check=False,
            cwd=yard,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=100,
        )
        return finished.returncode, finished.stdout.decode(errors="replace")

    status, output = confined(work, program)
    assert status == 0, output
    return str(output)


@either
@needs("git")
def test_git(confined: Confined, yard: Path, program: bytes) -> None:
    script = """
        set -e
        git init -q -b main work && cd work
        git config user.name A && git config user.email a@example.invalid
        echo one > file && git add file && git commit -qm one
        git branch side && git remote add origin ../elsewhere && git clone -q . ../copy
        git worktree add -q ../tree side && git gc -q && git stash list && git log --oneline
    """
    assert "one" in run(confined, yard, program, "sh", "-c", script)


@either
@needs("gcc", "make")
def test_gcc_and_make(confined: Confined, yard: Path, program: bytes) -> None:
    (yard / "hello.c").write_text(
        "#include <stdio.h>\n#include <pthread.h>\n"
        "static void *say(void *x) { puts(x); return 0; }\n"
        'int main(void) { pthread_t t; pthread_create(&t, 0, say, "hello");'
        " return pthread_join(t, 0); }\n"
    )
    (yard / "Makefile").write_text(
        "hello: hello.c\n\t$(CC) -pthread -o $@ $<\n\nrun: hello\n\t./hello\n"
    )
    assert "hello\n" in run(confined, yard, program, "make", "-j2", "run")


@needs("cmake", "gcc")
def test_cmake(confined: Confined, yard: Path) -> None:
    (yard / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.10)\nproject(p C)\nadd_executable(p p.c)\n"
    )
    (yard / "p.c").write_text("int main(void) { return 0; }\n")
    run(confined, yard, OWN, "sh", "-c", "cmake -S . -B build && cmake --build build && build/p")


@either
@needs("tar", "cp", "install")
def test_tar_cp_and_install(confined: Confined, yard: Path, program: bytes) -> None:
    script = """
        set -e
        mkdir -p a/b && echo x > a/b/c && ln -s b/c a/link && ln a/b/c a/hard && mkfifo a/fifo
        chmod 1777 a/b && touch -d 2001-01-01 a/b/c
        tar --xattrs --acls -czf a.tar.gz a && mkdir out && tar -xpzf a.tar.gz -C out
        cp -a a copied && cp --reflink=auto -p a/b/c again && install -m 755 a/b/c installed
        mv copied moved && diff -r --no-dereference moved/b out/a/b && rm -r moved out
        yes | head -c 100000 | wc -c
    """
    assert "100000" in run(confined, yard, program, "sh", "-c", script)


@needs("node")
@either
def test_node_without_network(confined: Confined, yard: Path, program: bytes) -> None:
    script = """
        const {execFileSync, spawn} = require('child_process');
        const {Worker} = require('worker_threads');
        require('fs').promises.writeFile('f', 'x').then(() => {
          new Worker('require("worker_threads").parentPort.postMessage(1)', {eval: true})
            .on('message', () => spawn('cat', {stdio: ['pipe', 'inherit', 'inherit']})
              .stdin.end(execFileSync('echo', ['fine'])));
        });
    """
    assert "fine" in run(confined, yard, program, "node", "-e", script)


@needs("node")
def test_node_serves_itself(confined: Confined, yard: Path) -> None:
    script = """
        const http = require('http'), os = require('os'), net = require('net');
        const server = http.createServer((_, answer) => answer.end('fine'));
        server.listen(0, '127.0.0.1', () =>
          http.get({host: 'localhost', port: server.address().port, family: 4}, answer => {
            answer.pipe(process.stdout);
            answer.on('end', () => {
              server.close();
              const local = net.createServer(c => c.end()).listen('s.sock', () =>
                net.connect('s.sock').on('close', () => local.close()).resume());
            });
          }));
        console.log(Object.keys(os.networkInterfaces()).length);
    """
    assert "fine" in run(confined, yard, OWN, "node", "-e", script)


@either
def test_python_in_several_processes(confined: Confined, yard: Path, program: bytes) -> None:
    (yard / "several.py").write_text(
        "import asyncio, concurrent.futures, multiprocessing, os, threading\n"
        "from multiprocessing import shared_memory\n"
        "async def child():\n"
        "    p = await asyncio.create_subprocess_exec('echo', 'x', stdout=-1)\n"
        "    return (await p.communicate())[0]\n"
        "if __name__ == '__main__':\n"
        "    for method in ('fork', 'spawn', 'forkserver')[:METHODS]:\n"
        "        with multiprocessing.get_context(method).Pool(2) as pool:\n"
        "            assert pool.map(abs, [-1, -2]) == [1, 2]\n"
        "    with concurrent.futures.ThreadPoolExecutor() as threads:\n"
        "        assert list(threads.map(abs, [-3])) == [3]\n"
        "    block = shared_memory.SharedMemory(create=True, size=10)\n"
        "    block.close(); block.unlink()\n"
        "    assert asyncio.run(child()) == b'x\\n'\n"
        "    print('fine')\n".replace(
            "METHODS",
            # The fork server talks over a socket with a path.
            "3" if program == OWN else "2",
        )
    )
    assert "fine" in run(confined, yard, program, PYTHON, "several.py")


def test_python_with_sockets(confined: Confined, yard: Path) -> None:
    (yard / "sockets.py").write_text(
        "import socket, multiprocessing, sqlite3\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Manager() as manager:\n"
        "        manager.dict()['a'] = 1\n"
        "    assert socket.if_nameindex()\n"
        "    socket.getaddrinfo('localhost', 80)\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:\n"
        "        one.bind(('127.0.0.1', 0))\n"
        "        one.sendto(b'x', one.getsockname())\n"
        "        assert one.recv(1) == b'x'\n"
        "    store = sqlite3.connect('store.db')\n"
        "    store.execute('pragma journal_mode=wal')\n"
        "    store.execute('create table t (x)')\n"
        "    store.commit()\n"
        "    print('fine')\n"
    )
    assert "fine" in run(confined, yard, OWN, PYTHON, "sockets.py")


@needs("java")
def test_java(confined: Confined, yard: Path) -> None:
    assert "Runtime" in run(confined, yard, OWN, "java", "-version")


@needs("tmux")
def test_tmux(confined: Confined, yard: Path) -> None:
    script = """
        tmux -S t new-session -d 'echo fine > out; tmux -S t wait-for -S done; cat' &&
            tmux -S t wait-for done; tmux -S t kill-server; cat out
    """
    assert "fine" in run(confined, yard, OWN, "sh", "-c", script)


@needs("ssh-keygen")
def test_ssh_keygen(confined: Confined, yard: Path) -> None:
    run(confined, yard, OWN, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(yard / "key"))


@needs("strace")
def test_strace_where_tracing_is_granted(confined: Confined, yard: Path) -> None:
    assert "execve" in run(confined, yard, TRACING, "strace", "-f", "sh", "-c", "/bin/true; :")


@needs("gdb", "gcc")
def test_gdb_where_tracing_is_granted(confined: Confined, yard: Path) -> None:
    (yard / "x.c").write_text("int main(void) { return 42; }\n")
    script = "gcc -g -o x x.c && gdb -nx -batch -ex 'break main' -ex run -ex 'print 6*7' ./x"
    output = run(confined, yard, TRACING, "sh", "-c", script)
    assert "Breakpoint 1, main" in output
    assert "randomization" not in output
