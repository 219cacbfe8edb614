"""Modules in the working folder: found, but only while classes that the user named are imported."""

import sys

from maskris.utils.imports import working_folder


def test_the_working_folder_is_searched_last_and_for_a_moment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    with working_folder():
        assert sys.path == ["elsewhere", str(tmp_path)]
    assert sys.path == ["elsewhere"]
    monkeypatch.setattr(sys, "path", [str(tmp_path), "elsewhere"])  # as in `python -m maskris`
    with working_folder():
        assert sys.path == [str(tmp_path), "elsewhere"]
    assert sys.path == [str(tmp_path), "elsewhere"]
