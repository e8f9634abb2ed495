"""An Inspect sandbox environment: `Task(..., sandbox="nono")`, once this is imported.

A sample has a workspace and a session of its own; no container is made. `metadata` and files of
the sample are as with any other sandbox. `user` can't be chosen: a worker is who runs Inspect, with
less.
"""

import shlex
import tempfile
import uuid
from typing import Any, Literal, overload

from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    sandboxenv,
)
from inspect_ai.util._sandbox.environment import (
    SandboxEnvironmentConfigType,
    SandboxUserUnsupportedError,
)
from inspect_ai.util._sandbox.limits import SandboxEnvironmentLimits

import nono_mcp

# Gives a program's standard error a file of its own, as Inspect wants it.
_APART = 'errors=$1; shift; exec "$@" 2>"$errors"'


@sandboxenv(name="nono")
class NonoSandboxEnvironment(SandboxEnvironment):
    """One sample's session."""

    @classmethod
    async def sample_init(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        metadata: dict[str, str],
    ) -> dict[str, SandboxEnvironment]:
        """Make a workspace, and start a session in it."""
        environment = cls()
        await environment.session.__aenter__()
        return {"default": environment}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        """End the sessions, and remove their workspaces."""
        for environment in environments.values():
            ours = environment.as_type(NonoSandboxEnvironment)
            await ours.session.__aexit__(None, None, None)
            ours.directory.cleanup()

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="nono-sample-")
        self.session = nono_mcp.Session(self.directory.name)

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,  # noqa: ASYNC109 - Inspect's signature
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a program in the sandbox."""
        if user is not None:
            raise SandboxUserUnsupportedError(f"a confined worker can't become {user!r}")
        bytes_max = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        output = bytearray()
        errors = f".nono-stderr-{uuid.uuid4().hex}"
        done = await self.session.run(
            ["/bin/sh", "-c", _APART, "sh", f"{self.directory.name}/{errors}", *cmd],
            cwd=cwd,
            stdin=input or b"",
            environment=env,
            timeout_s=timeout,
            on_output=output.extend,
        )
        said = await self._taken(errors)
        if done.limit == "wall":
            raise TimeoutError
        if len(output) > bytes_max:
            raise OutputLimitExceededError(str(bytes_max), _text(output[:bytes_max]))
        return ExecResult(done.status == 0, done.status, _text(output), said + done.failure)

    async def _taken(self, name: str) -> str:
        """Return what is in a file of ours, which is there no more afterwards."""
        quoted = shlex.quote(name)
        return (await self.session.run(f"cat {quoted} && rm {quoted}")).text

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write a file, as a command in the sandbox could."""
        try:
            await self.session.write_file(file, contents)
        except nono_mcp.FileError as error:
            raise _known(error) from error

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> Any:
        """Read a file, as a command in the sandbox could."""
        try:
            content = await self.session.read_file(file)
        except nono_mcp.FileError as error:
            raise _known(error) from error
        return content.decode() if text else content


def _text(output: bytes | bytearray) -> str:
    return output.decode("utf-8", "replace")


def _known(error: nono_mcp.FileError) -> OSError:
    kinds = {
        "No such file": FileNotFoundError,
        "Is a directory": IsADirectoryError,
    }
    kind = next((kind for said, kind in kinds.items() if said in str(error)), PermissionError)
    return kind(str(error))
