import subprocess
import sys

import pytest
import typer

from dynamos.cli.main import build


def verbs():
    """Give every verb as its words, with its command."""
    root = typer.main.get_command(build())
    found = []
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        found += [((name, verb), each) for verb, each in inner.items()] if inner else [((name,), command)]
    return found


@pytest.mark.parametrize(
    ("words", "command"), verbs(), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_verb_and_option_says_what_it_does(words, command):
    assert command.help, words
    silent = [p.name for p in command.params if not getattr(p, "help", "")]
    assert not silent


def test_every_reading_verb_can_answer_in_json():
    changing = {"up", "down", "logs", "demo", "token", "new", "set", "revoke", "ssh", "exec", "cut", "silence", "heal"}
    changing |= {"schema"}  # which is JSON
    changing |= {"export", "report", "manifests"}  # which write files, or what kubectl reads
    without = {
        " ".join(words)
        for words, command in verbs()
        if words[-1] not in changing and "--format" not in {opt for p in command.params for opt in p.opts}
    }
    assert not without


def test_help_imports_nothing_that_is_slow():
    code = (
        "import sys\nfrom dynamos.cli.main import run\n"
        "try:\n    run(['--help'])\nexcept SystemExit:\n    pass\n"
        "slow = {'httpx', 'pyarrow', 'duckdb', 'numpy', 'pydantic', 'rich', 'asyncio', 'yaml', 'sqlglot', 'fastapi'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "Usage: dynamos" in done.stdout
