"""A file tool as a program: on macOS nothing confines a process but `sandbox-exec` before it.

On Linux a worker that executes no program has its code from the fork server it was forked from.
Here it is Python, started under the call's profile, which therefore lets it read Python and this
package beside what is granted. Denials hold all the same.

Nobody has run it on a Mac.
"""

from __future__ import annotations

import os
import sys

from nono_sandbox.confinement import READ, Grant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.confinement import Call, Confinement

_BOOT = (
    "import sys; sys.dont_write_bytecode = True; sys.path.append(sys.argv.pop(1)); "
    "from nono_sandbox.builtin import main; main(sys.argv[1])"
)


def as_program(call: Call, confinement: Confinement) -> tuple[Call, Confinement]:
    """Return *call*, which executes no program, as one that does, and what it runs under."""
    python = os.path.realpath(sys.executable)
    package = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))
    argv = (python, "-I", "-S", "-c", _BOOT, os.path.dirname(package), *call.argv)
    needed = [Grant(python, READ, exact=True), Grant(package, READ)]
    # The standard library needn't be in the prefix.
    for path in (sys.base_prefix, os.path.dirname(os.__file__)):
        real = os.path.realpath(path)
        if real != "/":
            needed.append(Grant(real, READ))
    return (
        call.replace(argv=argv, builtin=False),
        confinement.replace(grants=(*confinement.grants, *needed)),
    )
