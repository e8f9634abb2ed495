"""A policy's path rules: which layer says what, and where it leads.

A layer is one document and where it comes from. Layers are kept apart until here, so that each
rule can be told to the person as they know it.

Architecture invariant: this module does no I/O; `resolve` is handed in.
"""

from __future__ import annotations

from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.paths import VARIABLES, Place, expand
from nono_sandbox.confinement import READ, WRITE
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nono_mcp.policy.document import Document

GRANTS = (
    ("allow", READ | WRITE, False),
    ("read", READ, False),
    ("write", WRITE, False),
    ("allow_file", READ | WRITE, True),
    ("read_file", READ, True),
    ("write_file", WRITE, True),
)
"""(key, access, exact)"""

PERSON = "person"
SHIPPED = "shipped"
"""What its grants name may be missing."""
TOOLS = "tools"
"""Likewise, and what is closed is left out without a word."""
FLAGS = "flags"
"""Its paths may be relative, and its rules are shown as flags."""

DENIALS = (("deny", READ | WRITE), ("deny_write", WRITE))


class Layer(Value):
    """One document and where it comes from."""

    name: str
    document: Document
    kind: str = PERSON
    file: str | None = None
    source: str = ""
    """The text of *file*, for finding the line of a mistake."""


class Asked(Value):
    """One path rule of a layer, and where its path leads."""

    place: Place
    access: int
    exact: bool
    text: str
    """The rule as the person knows it."""
    written: str
    """Its path as written."""
    layer: Layer
    key: str
    index: int

    def error(self, message: str, hint: str = "") -> PolicyError:
        """Return *message* as an error that says where the rule stands."""
        layer = self.layer
        if layer.file is None:
            return PolicyError(f"{self.text}: {message}", hint=hint)
        # Only a mistake pays for the import.
        from nono_mcp.policy.lines import locate

        line = locate(layer.source, ("filesystem", self.key, self.index))
        message = f"{self.key} {quoted(self.place.text)}: {message}"
        return PolicyError(message, file=layer.file, line=line, hint=hint)


class Look(Value):
    """How the texts of rules become places."""

    variables: Mapping[str, str]
    base: str
    resolve: Callable[[str], Place]


def grants(layers: Sequence[Layer], look: Look) -> list[Asked]:
    """Return what the *layers* grant, in order."""
    return [
        asked
        for layer in layers
        for key, access, exact in GRANTS
        for asked in _asked(layer, key, access, look, exact=exact)
    ]


def denials(layers: Sequence[Layer], look: Look) -> list[Asked]:
    """Return what the *layers* deny, in order."""
    return [
        asked
        for layer in layers
        for key, access in DENIALS
        for asked in _asked(layer, key, access, look)
    ]


def placed(layer: Layer, text: str, look: Look) -> Place:
    """Return where a path of *layer*, written as *text*, leads."""
    written = _flag(text, look) if layer.kind == FLAGS else expand(text, look.variables)
    return look.resolve(written)


def bypasses(layers: Sequence[Layer], look: Look) -> list[Asked]:
    """Return which protected paths the *layers* give up, in order."""
    return [asked for layer in layers for asked in _asked(layer, "bypass", 0, look)]


def _asked(
    layer: Layer, key: str, access: int, look: Look, *, exact: bool = False
) -> Iterator[Asked]:
    texts: tuple[str, ...] = getattr(layer.document.filesystem, key)
    for index, text in enumerate(texts):
        place = placed(layer, text, look)
        if layer.kind == FLAGS:
            shown = f"--{key.replace('_', '-')} {quoted(text)}"
        else:
            shown = f"{layer.name}: {key} {_written(text)}"
        # Profiles of ours name what only some machines have.
        if place.kind or layer.kind not in (SHIPPED, TOOLS) or not access:
            yield Asked(place, access, exact, shown, text, layer, key, index)


def _written(text: str) -> str:
    """Return a document's path as it's written there, if that's plain."""
    plain = text.removeprefix("$")
    return text if quoted(plain) == plain else quoted(text)


def _flag(text: str, look: Look) -> str:
    """Expand a path of the command line, which may be relative, unlike a document's."""
    first = text.partition("/")[0]
    led = first in ("", "~") or (first.startswith("$") and first[1:] in VARIABLES)
    if text and not led and first[:1] not in ("~", "$"):
        text = f"{look.base}/{text}"
    return expand(text, look.variables)
