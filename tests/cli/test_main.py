import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import get_args

import pytest

from maskris.cli import main as cli
from maskris.cli.arguments import arguments_of, models_first, parse, split_overrides
from maskris.cli.evaluate import evaluate
from maskris.cli.options import MetricName
from maskris.cli.score import score
from maskris.evaluation.metrics import metrics_of
from maskris.evaluation.protocol import PRESETS
from maskris.robustness import results as robustness_results


def test_the_overview_names_every_command(maskris):
    for words in ([], ["--help"], ["-h"], ["help"]):
        code, out, _ = maskris(*words)
        assert code == 0
        for name, (_, about) in cli.commands().items():
            assert f"{name:<10}  {about}" in out


def test_the_version(maskris):
    from maskris import __version__

    assert maskris("--version")[:2] == (0, f"maskris {__version__}\n")


@pytest.mark.parametrize(
    ("name", "hint"), [("trian", "did you mean `maskris train`?"), ("xyz", "`maskris --help` lists the commands")]
)
def test_unknown_commands(maskris, name, hint):
    assert maskris(name) == (2, "", f"error: There is no command {name!r}; {hint}\n")


def test_help_loads_nothing_heavy():
    code = f"""
import sys
from maskris.cli.main import main
for name in {list(cli.commands())}:
    try:
        main([name, "--help"])
    except SystemExit as end:
        assert end.code == 0, name
    heavy = [package for package in ("torch", "transformers", "pyarrow", "accelerate") if package in sys.modules]
    assert not heavy, (name, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: maskris") == len(cli.commands())


@pytest.mark.parametrize("name", cli.commands())
def test_help_describes_every_argument_on_80_columns(maskris, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = maskris(name, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "_" not in "".join(word for word in out.split() if word.startswith("--") and "." not in word)
    assert "<class" not in out
    for argument in arguments_of(cli.commands()[name].function(name)):
        assert f"  {argument.shown}" in out
        assert len(argument.text) > 10, f"{argument.shown} has no help"
        assert "".join(argument.text[1:].split()) in "".join(out.split())  # as a flag, it may begin with "Don't"


DIFFERENT = {  # what means another thing in some commands, or is another thing by default
    "out": "every command writes something else",
    "data": "some can do without data, and some take other files too",
    "from_": "what is fetched differs",
    "scenes": "a study has a number of its own",
    "splits": "a study compares on one split",
    "protocol": "a report takes that of the runs",
    "missing": "expressions without a prediction, or referents without a mask",
    "metric": "a study compares by the mean",
    "text": "sentences of annotations, or the text encoder of a checkpoint",
    "threads": "those of a study's runs",
    "threshold": "of probabilities, or of soft masks, which have none by default",
}


def test_options_of_one_name_are_one_option():
    seen = {}
    for command in cli.commands():
        for argument in arguments_of(cli.commands()[command].function(command)):
            if not argument.positional:
                seen.setdefault(argument.name, {})[command] = argument
    shared = {name: uses for name, uses in seen.items() if len(uses) > 1}
    assert {"batch_size", "device", "interval_unit", "model_class", "precision", "resamples", "workers"} <= set(shared)
    for name, uses in shared.items():
        kinds = {str(argument.annotation) for argument in uses.values()}
        if name in DIFFERENT:
            kinds = {kind.replace(" | None", "").replace("typing.Optional", "") for kind in kinds}
            assert len(kinds) <= 2, (name, kinds)
            continue
        assert len(kinds) == 1, (name, kinds)
        for what in ("default", "text"):
            found = {command: getattr(argument, what) for command, argument in uses.items()}
            assert len(set(found.values())) == 1, (name, found)


def test_models_come_first_and_data_by_an_option():
    for command in cli.commands():
        arguments = arguments_of(cli.commands()[command].function(command))
        positional = [argument.name for argument in arguments if argument.positional]
        names = [argument.name for argument in arguments]
        # One trains a model, unless --checkpoint names another; one has a --teacher, which need be no model of ours.
        if "batch_size" in names and command not in ("reproduce", "label"):
            assert positional[0] in ("checkpoint", "checkpoints", "runs"), command
        assert "data" not in positional, command


def test_a_command_is_one_file(maskris, monkeypatch, tmp_path):
    """A file put beside the others is a command; nothing else names it."""
    folder = tmp_path / "cli"
    shutil.copytree(Path(cli.__file__).parent, folder)
    (folder / "shout.py").write_text('"""Shout a word."""\n\ndef shout(word: str) -> None:\n    """Shout."""\n')
    monkeypatch.setattr(cli, "__file__", str(folder / "main.py"))
    monkeypatch.setattr(cli, "ELSEWHERE", {})
    cli.commands.cache_clear()
    try:
        assert list(cli.commands())[-1] == "shout"
        assert cli.commands()["shout"] == ("maskris.cli.shout", "Shout a word.")
        assert "shout       Shout a word." in maskris("--help")[1]
    finally:
        cli.commands.cache_clear()


def test_the_help_of_train_tells_the_keys_of_a_recipe(maskris):
    out = maskris("train", "--help")[1]
    assert "--training.batch_size" in out
    assert "Learning rate of the decoder" in out
    assert "--model.KEY" in out
    assert "--training CONFIG" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare"], "the following arguments are required: out"),
        (["evaluate"], "the following arguments are required: checkpoint, data"),
        (["prepare", "a", "--out", "b", "--formt", "coco"], "there is no option --formt; did you mean --format?"),
        (["prepare", "a", "--out", "b", "--text", "xml"], "--text: expected one of 'sent', 'raw', not xml"),
        (["evaluate", "a", "--data", "b", "--batch-size", "many"], "--batch-size: expected int, not many"),
        (["predict"], "the following arguments are required: checkpoint"),
        (["evaluate", "--model"], "there is no option --model"),
        (
            ["predict", "a", "--device", "b", "c", "--devcie", "d"],
            "there is no option --devcie; did you mean --dev",
        ),
        (["predict", "a", "b", "--device"], "argument --device: expected one argument"),
        (["recipes", "a", "b"], "maskris recipes can't use 'b'; phrases with spaces need quotes"),
        (["train", "a", "--data", "b", "--trainin.lr", "1"], "there is no option --trainin.lr"),
    ],
)
def test_wrong_usage_is_explained(maskris, words, message):
    code, out, err = maskris(*words)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert re.match(f"error: {message}", first)
    assert second == f"`maskris {words[0]} --help` shows what it takes."


def imagined(
    photo: str, phrases: list[str], *, some_size: int = 3, names: list[str] | None = None, check: bool = True
) -> None:
    """Do it.

    Args:
        photo: A.
        phrases: B.
        some_size: C.
        names: D.
        check: E.
    """


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ([], {}),
        (["--some-size", "5", "--no-check"], {"some_size": 5, "check": False}),
        (["--some_size=5"], {"some_size": 5}),
        (["--names", "x", "y_z"], {"names": ["x", "y_z"]}),
    ],
)
def test_a_command_is_a_typed_function(words, changes):
    values = {"photo": "p.jpg", "phrases": ["a b", "c"], "some_size": 3, "names": None, "check": True}
    assert parse("imagined", imagined, ["p.jpg", "a b", "c", *words]) == values | changes


@pytest.mark.parametrize(
    "words",
    [
        ["p.jpg", "--some-size", "5", "a b", "c"],
        ["--some-size", "5", "p.jpg", "a b", "c"],
        ["p.jpg", "a b", "--some-size", "5", "c", "--names", "x", "-1"],
        ["p.jpg", "--no-check", "a b", "--some-size=5", "c"],
        ["--names", "x", "-1", "--some-size", "5", "--", "p.jpg", "a b", "c"],
    ],
)
def test_options_may_stand_among_what_is_given_by_position(words):
    values = parse("imagined", imagined, words)
    assert (values["photo"], values["phrases"], values["some_size"]) == ("p.jpg", ["a b", "c"], 5)
    assert values["names"] == (["x", "-1"] if "--names" in words else None)
    assert values["check"] is ("--no-check" not in words)


@pytest.mark.parametrize(
    "words", [["--model", "M", "p.jpg", "x"], ["p.jpg", "--model=M", "x"], ["p.jpg", "x", "--model", "M"]]
)
def test_a_model_is_given_by_its_place_or_by_an_option(words):
    from maskris.cli.predict import predict

    assert models_first(words) == ["M", "p.jpg", "x"]
    values = parse("predict", predict, words)
    assert (values["checkpoint"], values["source"], values["expressions"]) == ("M", "p.jpg", ["x"])
    assert models_first(["p.jpg", "--", "--model", "M"]) == ["p.jpg", "--", "--model", "M"]


@pytest.mark.parametrize("name", ["evaluate", "robustness", "predict", "demo", "report"])
def test_every_command_that_takes_a_model_takes_it_as_an_option(name):
    function = cli.commands()[name].function(name)
    first = arguments_of(function)[0]
    data = ["--data", "a.parquet"] if any(one.name == "data" for one in arguments_of(function)) else []
    found = parse(name, function, [*data, "--model", "M"])[first.name]
    assert list(map(str, found)) == ["M"]
    if first.name != "checkpoint":
        several = parse(name, function, [*data, "--model", "A", "B", "--names", "a", "b"])
        assert list(map(str, several[first.name])) == ["A", "B"]


def test_options_have_whole_names(capsys):
    """An abbreviation could be taken for another option than was meant, as --model for --model-class."""
    with pytest.raises(SystemExit) as end:
        parse("imagined", imagined, ["p.jpg", "a b", "--some", "5"])
    assert end.value.code == 2
    assert "there is no option --some; did you mean --some-size?" in capsys.readouterr().err


def test_phrases_may_begin_with_a_dash():
    phrases = ["-3 on the rng", "- the last", "--some-size"]
    values = parse("imagined", imagined, ["p.jpg", *phrases[:2], "--some-size", "5", "--", *phrases[2:]])
    assert (values["phrases"], values["some_size"]) == (phrases, 5)


def test_flags_take_no_value():
    from maskris.cli.prepare import prepare

    assert parse("prepare", prepare, ["a", "--out", "b", "--skip-invalid"])["skip_invalid"] is True
    assert parse("prepare", prepare, ["a", "--out", "b"])["skip_invalid"] is False
    assert parse("prepare", prepare, ["--no-check-images", "a", "--out", "b"])["check_images"] is False


def test_keys_of_the_recipe_are_told_from_options():
    keys = ["--training.lr", "1e-4", "--model.layers=3", "--strategy", "maskris.Supervised", "--data.train", "x"]
    words = ["a.yaml", "--data", "b", "c", *keys[:2], "--out", "d", *keys[2:]]
    own, overrides = split_overrides(words)
    assert own == ["a.yaml", "--data", "b", "c", "--out", "d"]
    assert overrides == keys


def test_errors_are_explained_and_debugging_shows_where_they_come_from(maskris, monkeypatch, tmp_path):
    missing = tmp_path / "none.parquet"
    code, out, err = maskris("evaluate", tmp_path, "--data", missing)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {missing} does not exist; `maskris prepare SOURCE --out")
    assert len(err.splitlines()) == 1
    monkeypatch.setenv("MASKRIS_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        cli.main(["evaluate", str(tmp_path), "--data", str(missing)])


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (KeyError("no metric x"), 1, "error: KeyError: no metric x\n(MASKRIS_DEBUG=1 shows where this came from)\n"),
        (ValueError("lr is negative"), 1, "error: lr is negative\n"),
        (KeyboardInterrupt(), 130, "error: Interrupted\n"),
    ],
)
def test_exit_codes(maskris, monkeypatch, error, code, shown):
    def fail(name=None):
        raise error

    monkeypatch.setattr("maskris.cli.recipes.recipes", fail)
    assert maskris("recipes") == (code, "", shown)


def test_warnings_come_without_code(maskris, monkeypatch):
    monkeypatch.setattr("maskris.cli.recipes.recipes", lambda name=None: warnings.warn("Beware", stacklevel=2))
    assert maskris("recipes") == (0, "", "warning: Beware\n")


def test_a_reader_that_leaves_early_is_no_error():
    # The reading end is closed before anything is written.
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "maskris", "recipes", "refcoco-maskris"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_prepare_says_what_is_missing(maskris, tmp_path):
    code, _, err = maskris("prepare", "--out", tmp_path / "a.parquet")
    assert code == 1
    assert "Say what to read: maskris prepare SOURCE" in err


def test_choices_of_protocols_and_metrics_are_those_of_the_packages():
    assert get_args(MetricName) == ("mIoU", "oIoU")
    assert set(get_args(MetricName)) == set(robustness_results.METRICS) < set(metrics_of(PRESETS["maskris"]))
    for command, function in (("evaluate", evaluate), ("score", score)):
        (protocol,) = (argument for argument in arguments_of(function) if argument.name == "protocol")
        assert get_args(protocol.annotation) == tuple(PRESETS), command
