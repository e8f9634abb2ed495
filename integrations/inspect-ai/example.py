"""An Inspect task whose sandbox is nono's: python example.py WORKSPACE.

The model is a script, so that this runs anywhere. WORKSPACE is where Inspect's log goes: each
sample has a workspace of its own.
"""

import sys

import inspect_ai
import nono_sandbox_environment  # noqa: F401 - registers itself
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, Scorer, Target, accuracy, scorer
from inspect_ai.solver import TaskState, generate, use_tools
from inspect_ai.tool import bash
from inspect_ai.util import sandbox

COMMANDS = ("echo made here > made.txt; cat made.txt given.txt", "cat /etc/shadow")


@scorer(metrics=[accuracy()])
def made() -> Scorer:
    """Look into the sandbox for what was to be made."""

    async def score(state: TaskState, target: Target) -> Score:
        box = sandbox()
        found = await box.read_file("made.txt")
        both = await box.exec(["sh", "-c", "echo out; echo err >&2; exit 3"])
        apart = (both.returncode, both.stdout, both.stderr) == (3, "out\n", "err\n")
        try:
            await box.write_file("/etc/made-by-inspect", "x")
        except OSError as error:
            apart = apart and isinstance(error, PermissionError)
        else:
            apart = False
        return Score(value=int(found == target.text and apart))

    return score


def main(workspace: str) -> None:
    """Evaluate one sample, and print what the sandbox answered."""
    outputs = [
        ModelOutput.for_tool_call("mockllm/model", "bash", {"command": command})
        for command in COMMANDS
    ]
    outputs.append(ModelOutput.from_content("mockllm/model", "done"))
    for output in outputs:
        # What isn't told, Inspect counts, with a table that it fetches.
        output.usage = ModelUsage()
    task = inspect_ai.Task(
        dataset=[Sample(input="make a file", target="made here\n", files={"given.txt": "given\n"})],
        solver=[use_tools(bash(timeout=60)), generate()],
        scorer=made(),
        sandbox="nono",
    )
    model = get_model("mockllm/model", custom_outputs=outputs)
    (log,) = inspect_ai.eval(task, model=model, log_dir=f"{workspace}/logs", display="none")
    if log.error or not log.samples or log.results is None:
        raise SystemExit(str(log.error))
    for message in log.samples[0].messages:
        if message.role == "tool":
            print(message.text)
    print("accuracy", log.results.scores[0].metrics["accuracy"].value)


if __name__ == "__main__":
    main(sys.argv[1])
