"""Whatever a file is called, what is said about it arrives."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("call", ["say(name)", "show(Text(name))"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_the_terminal_cannot_write_is_escaped(call, encoding):
    code = f"from maskris.cli.common import *; from rich.text import Text; name = 'photo\\udce9.png'; {call}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, env={"PYTHONIOENCODING": f"{encoding}:strict"}
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.strip() == rb"photo\udce9.png"
