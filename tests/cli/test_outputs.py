"""No command destroys what it reads, and each says so before it computes anything."""

import shutil

import pytest

from maskris.cli.common import check_output


@pytest.fixture
def refuses(maskris, monkeypatch):
    """Runs a command that must be refused with a message, before a table is opened, and must not change a file."""

    def call(file, message, *words):
        before = file.read_bytes() if file.is_file() else None
        with monkeypatch.context() as patch:
            patch.setattr("maskris.data.table.ReferringTable.open", lambda *_: pytest.fail("a table was opened"))
            code, _, err = maskris(*words)
        assert code == 1
        assert message in err
        assert before is None or file.read_bytes() == before

    return call


def test_prepare_does_not_replace_what_it_reads(refuses, squares, table, tmp_path):
    source = shutil.copy(squares / "squares.jsonl", tmp_path / "odd.parquet")  # the format may be given
    message = f"{source} is read and would be replaced by what is written; choose another --out"
    refuses(source, message, "prepare", source, "--format", "jsonl", "--out", source)
    (tmp_path / "link.parquet").symlink_to(source)
    refuses(source, "is read and would be", "prepare", source, "--format", "jsonl", "--out", tmp_path / "link.parquet")
    member = shutil.copy(table, tmp_path / "one.parquet")
    refuses(member, "is read and would be", "prepare", "--combine", member, table, "--out", member)
    rejects = shutil.copy(squares / "squares.jsonl", tmp_path / "a.parquet.rejects.jsonl")  # corrected by hand
    refuses(rejects, f"{rejects} is read and", "prepare", rejects, "--out", tmp_path / "a.parquet")
    photo = squares / "0.png"
    refuses(photo, f"must end in .parquet, such as {squares / '0.parquet'}", "prepare", source, "--out", photo)
    refuses(tmp_path, f"{tmp_path} is a folder; name a file", "prepare", source, "--out", tmp_path)


def test_evaluate_does_not_replace_what_it_reads(refuses, run, table, tmp_path):
    data = shutil.copy(table, tmp_path / "data.parquet")
    refuses(data, f"{data} is read and would be replaced", "evaluate", run, "--data", table, data, "--out", data)
    weights = run / "best" / "model.safetensors"
    refuses(weights, "must end in .parquet", "evaluate", run, "--data", table, "--out", weights)
    refuses(
        run,
        f"{run} is a folder; name a file, such as {run}/result.parquet",
        "evaluate",
        run,
        "--data",
        table,
        "--out",
        run,
    )


def test_a_report_is_html_and_replaces_nothing_that_it_reads(refuses, run, table, tmp_path):
    rows = shutil.copy(table, tmp_path / "rows.parquet")
    refuses(rows, f"must end in .html, such as {tmp_path / 'rows.html'}", "report", run, "--out", rows)
    data = shutil.copy(table, tmp_path / "data.html")
    refuses(data, f"{data} is read and would be replaced", "report", run, "--data", data, "--out", data)


def test_what_was_written_before_may_be_written_again(tmp_path):
    for name in ("RUN/report.html", "RUN/new.HTML"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
        check_output(tmp_path / name, [tmp_path / "RUN", "owner/name", None], ".html")
