"""Checks the workflows of GitHub: that they are YAML without a key twice, that each job and step has what it needs, that actions
are pinned by version, that the scripts they call are there, and that shellcheck has nothing to say about what they run.

    scripts/lint-workflows.py FILE...
"""

import os
import re
import subprocess
import sys

import yaml


class Strict(yaml.SafeLoader):
    """YAML as it is meant here: a key stands once."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: twice: {', '.join(sorted(twice))}")
        return super().construct_mapping(node, deep)


def complaints(path):
    """What is wrong with one workflow, one sentence each."""
    try:
        with open(path, encoding="utf-8") as file:
            workflow = yaml.load(file, Strict)  # noqa: S506, a safe loader
    except yaml.YAMLError as error:
        yield f"no YAML: {error}"
        return
    # YAML 1.1 reads `on` as a truth.
    if not {"name", True, "permissions", "jobs"} <= workflow.keys():
        yield "needs name, on, permissions and jobs"
        return
    for name, job in workflow["jobs"].items():
        if not {"runs-on", "timeout-minutes", "steps"} <= job.keys():
            yield f"{name}: needs runs-on, timeout-minutes and steps"
            continue
        for number, step in enumerate(job["steps"], 1):
            yield from (f"{name}, step {number}: {text}" for text in of_step(step))


def of_step(step):
    """What is wrong with a step."""
    unknown = step.keys() - {"name", "id", "if", "uses", "with", "run", "env", "shell", "working-directory"}
    if unknown:
        yield f"unknown: {', '.join(sorted(unknown))}"
    if ("uses" in step) == ("run" in step):
        yield "needs one of uses and run"
    elif "uses" in step:
        if not re.fullmatch(r"[\w.-]+/[\w./-]+@v\d+(\.\d+)*|[\w.-]+/[\w./-]+@[0-9a-f]{40}", step["uses"]):
            yield f"{step['uses']} is not pinned by version"
    else:
        if "name" not in step:
            yield "needs a name"
        for script in re.findall(r"(?:^|\s)((?:scripts|launchd)/[\w./-]+)", step["run"]):
            if not os.access(script, os.X_OK):
                yield f"{script} is not there, or cannot be run"
        # An expression is text when the shell sees it.
        text = re.sub(r"\$\{\{.*?\}\}", "expression", step["run"])
        # As GitHub runs it.
        checked = subprocess.run(
            ["shellcheck", "-s", "bash", "-"], input="set -eo pipefail\n" + text, capture_output=True, text=True, timeout=60
        )
        if checked.returncode != 0:
            yield checked.stdout.strip() or checked.stderr.strip()


def main():
    """Prints what is wrong."""
    found = [f"{path}: {text}" for path in sys.argv[1:] for text in complaints(path)]
    print("\n".join(found), end="\n" if found else "")
    sys.exit(1 if found else 0)


main()
