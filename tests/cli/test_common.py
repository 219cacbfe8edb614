"""Whatever a file is called, what is said about it arrives."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("call", ["say(name)", "show(Table([name], []))"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_the_terminal_cannot_write_is_escaped(call, encoding):
    code = f"from maskris.cli.common import *; from maskris.reporting import Table; name = 'photo\\udce9.png'; {call}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"photo\udce9.png" in done.stdout
