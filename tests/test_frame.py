import json
import re
import tomllib
from pathlib import Path

from nono_mcp.server import team

SOURCES = Path(__file__).parents[1]
README = (SOURCES / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_readme_opens_with_two_commands() -> None:
    before, block, *_ = re.split(r"^```.*\n", README, flags=re.MULTILINE)
    commands = [line.partition("#")[0].rstrip() for line in block.splitlines()]
    assert commands == ["./dev demo", "./dev test"]
    assert len(before.splitlines()) < 10


def test_snippets_for_clients_are_what_the_clients_parse() -> None:
    [claude] = [json.loads(block) for block in blocks("json")]
    codex = tomllib.loads(blocks("toml")[0])
    assert claude["mcpServers"]["nono"]["args"] == codex["mcp_servers"]["nono"]["args"]
    assert claude["mcpServers"]["nono"]["command"] == codex["mcp_servers"]["nono"]["command"]


def test_the_teams_file_is_one() -> None:
    _, example = blocks("toml")
    assert list(team.parse(example, "README.md").principals) == ["alice"]
