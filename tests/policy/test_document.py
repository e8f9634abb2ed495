from __future__ import annotations

import pytest
from hypothesis import given

from nono_mcp.policy.document import (
    SECTIONS,
    Document,
    EnforcementSection,
    EnvironmentSection,
    FilesystemSection,
    LimitsSection,
    NetworkSection,
    merge,
)
from nono_mcp.policy.keys import FIELDS
from tests.policy.strategies import documents

GROWING = ("deny", "deny_write", "allow", "read", "bypass")


def test_every_key_has_a_place_in_its_section() -> None:
    for field in FIELDS:
        assert hasattr(SECTIONS[field.section], field.name())
    kept = {(field.section, field.name()) for field in FIELDS}
    there = {(name, key) for name, kind in SECTIONS.items() for key in vars(kind())}
    assert kept == there


@given(documents, documents)
def test_merging_loses_no_denial_and_no_requirement(base: Document, over: Document) -> None:
    merged = merge(base, over)
    for key in GROWING:
        both = {*getattr(base.filesystem, key), *getattr(over.filesystem, key)}
        assert set(getattr(merged.filesystem, key)) == both
    required = {*base.enforcement.require, *over.enforcement.require}
    assert set(merged.enforcement.require) == required


@given(documents)
def test_merging_with_nothing_changes_nothing(document: Document) -> None:
    merged = merge(Document(), document)
    assert merged.filesystem == document.filesystem.replace(
        **{
            field.key: tuple(dict.fromkeys(getattr(document.filesystem, field.key)))
            for field in FIELDS
            if field.section == "filesystem" and field.kind == "paths"
        }
    )
    assert merge(document, Document()).limits == document.limits


def test_single_values_are_replaced_and_lists_grow() -> None:
    base = Document(
        filesystem=FilesystemSection(allow=("/a",), tools=True),
        limits=LimitsSection(timeout_s=5, memory_max=10),
        environment=EnvironmentSection(("A",), (("X", "1"), ("Y", "1"))),
        enforcement=EnforcementSection(("files",), best_effort=True),
    )
    over = Document(
        filesystem=FilesystemSection(allow=("/b", "/a"), tools=False),
        limits=LimitsSection(timeout_s=9),
        environment=EnvironmentSection(("B",), (("Y", "2"),)),
        enforcement=EnforcementSection(("network",), best_effort=False),
    )
    merged = merge(base, over)
    assert merged.filesystem == FilesystemSection(allow=("/a", "/b"), tools=False)
    assert merged.limits == LimitsSection(timeout_s=9, memory_max=10)
    assert merged.environment == EnvironmentSection(("A", "B"), (("X", "1"), ("Y", "2")))
    assert merged.enforcement == EnforcementSection(("files", "network"), best_effort=False)


PORTS = NetworkSection("ports", (80,), (8000,))


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        (NetworkSection(), NetworkSection(), NetworkSection()),
        (NetworkSection("open"), NetworkSection(), NetworkSection("open")),
        (NetworkSection("open"), NetworkSection("closed"), NetworkSection("closed")),
        (PORTS, NetworkSection("closed"), NetworkSection("closed")),
        (PORTS, NetworkSection("open"), NetworkSection("open")),
        (PORTS, NetworkSection(), PORTS),
        (NetworkSection("open"), PORTS, PORTS),
        (PORTS, NetworkSection("ports", (443,)), NetworkSection("ports", (80, 443), (8000,))),
        (PORTS, NetworkSection(None, (443,)), NetworkSection("ports", (80, 443), (8000,))),
        (
            NetworkSection("closed"),
            NetworkSection(None, (), (3000,)),
            NetworkSection("ports", (), (3000,)),
        ),
    ],
)
def test_a_network_replaces_another_kind_and_adds_ports_to_its_own(
    base: NetworkSection, over: NetworkSection, merged: NetworkSection
) -> None:
    assert merge(Document(network=base), Document(network=over)).network == merged
