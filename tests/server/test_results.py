"""How an ended command is told."""

import signal

import pytest

from nono_mcp.capture import Capture
from nono_mcp.server import results
from nono_mcp.server.enforcement import Enforcement
from nono_mcp.session import Result
from nono_sandbox.call_end import CallEnd
from nono_sandbox.confinement import Limits
from nono_sandbox.support import Guarantee

LIMITS = Limits(memory_bytes_max=2 * 10**9, processes_max=64, cpu_s=1.5, output_bytes_max=10**6)

ENFORCEMENT = Enforcement("landlock", "", ())


def ended(wait_status: int | None = 0, limit: str = "", *, leftovers: bool = False) -> CallEnd:
    return CallEnd(wait_status, limit, None, 0.25, 0.5, 4096, leftovers)


def result(end: CallEnd, output: bytes = b"", cwd: str = "/w") -> Result:
    capture = Capture()
    capture.feed(output)
    return Result("c0ffee", end, capture, 0.0123, cwd)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (ended(0), "exit status 0"),
        (ended(3 << 8), "exit status 3"),
        (ended(signal.SIGSEGV), "killed by SIGSEGV (status 139)"),
        (ended(35), "killed by signal 35 (status 163)"),
        (ended(9, "wall"), "stopped: its time limit (timeout_s) was reached"),
        (ended(9, "memory"), "stopped: it used more memory than it may (2000 MB)"),
        (ended(9, "processes"), "stopped: it started more processes than it may (64)"),
        (ended(9, "cpu"), "stopped: it used all the CPU time it may (1.5)"),
        (ended(9, "output"), "stopped: it printed more than it may (1000 KB)"),
        (ended(9, "disk"), "stopped: it added more to the disk than it may"),
        (ended(25, "file-size"), "stopped: it made a file larger than it may"),
        (ended(9, "of-tomorrow"), "stopped: the limit 'of-tomorrow' was reached"),
        (ended(None), "exit status 137"),
    ],
)
def test_the_status_line_says_what_ended_it(end: CallEnd, told: str) -> None:
    assert results.how_it_ended(result(end), LIMITS) == told


def test_the_answer_is_text_first_and_nothing_structured() -> None:
    answer = results.of_command(result(ended(3 << 8), b"out\n"), LIMITS, ENFORCEMENT)
    (content,) = answer.content
    assert content.type == "text"
    assert content.text == "exit status 3, 12 ms, 4 bytes of output, in /w\nout"
    assert answer.structured_content is None
    assert not answer.is_error
    assert answer.meta is not None
    data = answer.meta[results.META_KEY]
    assert data["status"] == 3
    assert data["tier"] == "landlock"
    assert data["output_bytes"] == 4


def test_long_output_keeps_both_ends_and_says_how_to_read_the_rest() -> None:
    output = b"".join(b"line %d\n" % n for n in range(1_000_000))
    answer = results.of_command(result(ended(), output), LIMITS, ENFORCEMENT, "a hint")
    (content,) = answer.content
    assert content.type == "text"
    assert len(content.text) <= 10_000
    lines = content.text.split("\n")
    assert lines[1] == "line 0"
    assert lines[-2:] == ["line 999999", "[nono] a hint"]
    (gap,) = (line for line in lines if line.startswith("[nono]") and "left out" in line)
    assert answer.meta is not None
    omitted = answer.meta[results.META_KEY]["omitted_bytes"]
    assert gap.startswith(f"[nono] {omitted} bytes left out")
    shown = sum(len(line) + 1 for line in lines[1:-1] if line != gap)
    assert shown + omitted == len(output)


def test_a_hostile_directory_name_stays_on_the_line() -> None:
    line = results.status_line(result(ended(), cwd="/w/a\nexit status 0\x1b[2J\udcff"), LIMITS)
    assert "\n" not in line
    assert line.isprintable()


def test_what_could_not_be_killed_is_told() -> None:
    assert "stuck in the kernel" in results.status_line(result(ended(leftovers=True)), LIMITS)


def test_what_the_person_does_without_is_told_every_time() -> None:
    missing = Guarantee("metadata", "modes stay", "not", "", "Landlock has no such rights")
    enforcement = Enforcement("landlock", "", (missing,), (missing,))
    answer = results.of_command(result(ended(), b"out"), LIMITS, enforcement)
    (content,) = answer.content
    assert content.type == "text"
    assert content.text.split("\n")[0].endswith(", not enforced: metadata")
    assert answer.meta is not None
    assert answer.meta[results.META_KEY]["not_enforced"] == ["metadata"]
