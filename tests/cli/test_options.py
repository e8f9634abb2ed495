import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_mcp.cli.options import HELP, Option, UsageError, parse

NAME = Option("--name", "NAME")
MANY = Option("--many", "ITEM", many=True)
SWITCH = Option("--switch", short="-s")
OPTIONS = (NAME, MANY, SWITCH, HELP)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], (None, (), False, ())),
        (["--name", "x"], ("x", (), False, ())),
        (["--name=x"], ("x", (), False, ())),
        (["--name=x=y"], ("x=y", (), False, ())),
        (["--name=--odd"], ("--odd", (), False, ())),
        (["--name", "-x"], ("-x", (), False, ())),
        (["--many", "a", "--many=b"], (None, ("a", "b"), False, ())),
        (["-s", "-s"], (None, (), True, ())),
        (["a", "--switch", "b"], (None, (), True, ("a", "b"))),
        (["a", "--", "--switch", "--"], (None, (), False, ("a", "--switch", "--"))),
        (["-", "--name", "x"], ("x", (), False, ("-",))),
    ],
)
def test_what_a_command_line_says(
    argv: list[str], expected: tuple[str | None, tuple[str, ...], bool, tuple[str, ...]]
) -> None:
    parsed = parse(argv, OPTIONS)
    found = (parsed.one("--name"), parsed.all("--many"), parsed.flag(SWITCH), parsed.rest)
    assert found == expected


@pytest.mark.parametrize(
    ("argv", "rest"),
    [
        (["ls", "--switch", "-l"], ("ls", "--switch", "-l")),
        (["--switch", "ls", "--", "x"], ("ls", "--", "x")),
        (["--switch", "--", "--name", "x"], ("--name", "x")),
        (["--many", "ls", "cat"], ("cat",)),
    ],
)
def test_a_command_keeps_its_own_options(argv: list[str], rest: tuple[str, ...]) -> None:
    assert parse(argv, OPTIONS, command=True).rest == rest


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["--nmae", "x"], "unknown option --nmae", "did you mean --name?"),
        (["--nmae=x"], "unknown option --nmae", "did you mean --name?"),
        (["--zzz"], "unknown option --zzz", ""),
        (["-x"], "unknown option '-x'", ""),
        (["--name"], "--name needs a value: --name NAME", "written --name=VALUE"),
        (["--name", "--switch"], "--name needs a value: --name NAME", "written --name=VALUE"),
        (["--name", "--", "x"], "--name needs a value: --name NAME", "written --name=VALUE"),
        (["--name", ""], "the value of --name is empty", ""),
        (["--name="], "the value of --name is empty", ""),
        (["--name", "a\0b"], "the value of --name holds a NUL character", ""),
        (["--name", "a", "--name", "b"], "--name is given twice", "leave one out"),
        (["--switch=yes"], "--switch takes no value", "write --switch"),
    ],
)
def test_what_is_no_command_line_is_told_with_what_to_do(
    argv: list[str], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(argv, OPTIONS)
    assert caught.value.message.removeprefix("unknown option ").strip("'") == message.removeprefix(
        "unknown option "
    ).strip("'")
    assert hint in caught.value.hint


def test_an_endless_word_is_shown_in_part() -> None:
    with pytest.raises(UsageError) as caught:
        parse(["--" + "x" * 1_000_000], OPTIONS)
    assert len(str(caught.value)) < 200


@given(st.lists(st.text(max_size=8) | st.sampled_from(["--name", "--many", "--", "-s", "--name="])))
def test_any_words_are_parsed_or_refused(argv: list[str]) -> None:
    try:
        rest = parse(argv, OPTIONS).rest
    except UsageError as error:
        rest = (str(error),)
        argv = [text for text in rest if text.isprintable()]
    assert set(rest) <= set(argv)


@given(st.lists(st.text(max_size=8)))
def test_what_comes_after_the_separator_is_untouched(words: list[str]) -> None:
    assert parse(["-s", "--", *words], OPTIONS, command=True).rest == tuple(words)
