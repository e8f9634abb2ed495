"""What makes directories and files, by the source: no umask shuts us out of our own."""

import re
from pathlib import Path

import nono_mcp
import nono_sandbox

PACKAGES = [Path(next(iter(package.__path__))) for package in (nono_mcp, nono_sandbox)]
MAKES = re.compile(
    r"\b(makedirs|mkdtemp|mkstemp|write_bytes|write_text|TemporaryDirectory)\(|"
    r"\.(mkdir|mkfifo|mknod)\("
)
"""Ways to make what the umask then says the mode of."""
MAKES_IF_NEW = re.compile(r"\bO_CREAT\b")
GIVES_BACK = re.compile(r"\bopen_(file|private)\(")
BESIDES = {
    "nono_sandbox/private.py": "makes what the others have made",
    "nono_mcp/_bundling.py": "code, as `.pyc` files are: whoever can't read it does without",
    "nono_mcp/cli/audit_proofs.py": "what a person wants exported, by their umask",
    "nono_mcp/demo/__init__.py": "a scene, by a umask of its own",
    "nono_mcp/demo/claims.py": "the same",
    "nono_mcp/demo/scene.py": "the same",
    "nono_mcp/guard/copying.py": "special files, dressed as names",
    "nono_mcp/guard/ways.py": "opened up when it's entered, as what a worker shut is",
    "nono_mcp/snapshots/applying.py": "opened up when it's entered, and dressed when it's left",
    "nono_mcp/snapshots/preparing.py": "dressed by its descriptor, or as a name",
    "nono_mcp/snapshots/staging.py": "opened up when it's entered",
    "nono_sandbox/builtin/writing.py": "a worker's, with the person's umask",
    "nono_sandbox/own_places.py": "in the fresh root, without a umask",
    "nono_sandbox/mount_points.py": "in the fresh root, without a umask",
    "nono_sandbox/cgroups/groups.py": "control groups: the kernel's own modes",
    "nono_sandbox/cgroups/hierarchy.py": "control groups: the kernel's own modes",
    "nono_sandbox/masks.py": "in the fresh root, without a umask",
    "nono_sandbox/seccomp/table.py": "a number in a table",
    "nono_sandbox/anonymous_file.py": "never opened by its name again",
}


def test_nothing_of_ours_is_made_as_the_umask_would_have_it() -> None:
    texts = {
        str(path.relative_to(package.parent)): path.read_text(encoding="utf-8")
        for package in PACKAGES
        for path in package.rglob("*.py")
    }
    making = {path for path, text in texts.items() if MAKES.search(text)} | {
        path
        for path, text in texts.items()
        if MAKES_IF_NEW.search(text) and not GIVES_BACK.search(text)
    }
    assert sorted(making) == sorted(BESIDES)
