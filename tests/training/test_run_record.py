"""A run folder is read as far as it goes, and mistakes about it are explained."""

import json

import pytest

from maskris.training.run_record import names_of, read_run, recipe_of

RECIPE = """\
model:
  class_path: maskris.CARIS
  init_args: {layers: 3, vision: {model_type: swin}, tokenizer: [a, b]}
strategy: {class_path: maskris.Supervised}
training: {protocol: cris, steps: 4}
"""
LOG = [
    {"event": "train", "step": 2, "loss": 0.5, "losses": {"clean": 0.3, "masked": 0.2}, "lr": 1e-3},
    {"event": "evaluate", "step": 2, "metrics": {"oIoU": 0.25}},
    {"event": "train", "step": 4, "loss": None, "losses": {"clean": None, "masked": 0.1}, "lr": 1e-4},
]


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "run"
    for name in ("best", "last"):
        (run / name).mkdir(parents=True)
        (run / name / "config.json").write_text("{}")
    (run / "last" / "state.json").write_text('{"step": 4, "versions": {"torch": "2"}}')
    (run / "recipe.yaml").write_text(RECIPE)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
    return run


def test_a_run_folder(folder):
    record = read_run(folder)
    assert (record.checkpoint, record.protocol, record.recipe) == ("best", "cris", RECIPE)
    assert record.state == {"step": 4, "versions": {"torch": "2"}}
    assert record.flat == {
        "model": "maskris.CARIS", "model.layers": 3, "model.vision.model_type": "swin", "model.tokenizer": ["a", "b"],
        "strategy": "maskris.Supervised", "training.protocol": "cris", "training.steps": 4,
    }  # fmt: skip
    assert record.curve("loss") == ([2, 4], [0.5, None])
    assert record.curve("losses", "masked") == ([2, 4], [0.2, 0.1])
    assert record.curve("metrics", "oIoU", event="evaluate") == ([2], [0.25])
    assert record.curve("metrics", "mIoU", event="evaluate") == ([], [])


def test_seconds_and_steps_of_a_run(folder):
    run = {"batch_size": 8, "referents_per_image": 2, "steps": 6, "epochs": None, "items": 20}
    lines = [{**line, "expressions_per_second": 4.0 * line["step"]} for line in LOG]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step, steps, epochs in ((4, 6, None), (4, None, 3), (4, 4, None), (4, None, 2)):
        state = {"step": step, "run": run | {"steps": steps, "epochs": epochs}}
        (folder / "last" / "state.json").write_text(json.dumps(state))
        record = read_run(folder)
        assert record.complete == ((steps, epochs) in ((4, None), (None, 2)))  # 20 items are two batches of 8
        assert record.seconds == 2 * 16 / 8 + 2 * 16 / 16
    (folder / "last" / "state.json").unlink()
    assert not read_run(folder).complete


def test_the_recipe_and_the_model_of_a_run(folder):
    recipe = folder / "recipe.yaml"
    assert [recipe_of(folder / name) for name in (".", "best", "last", "other")] == [recipe, recipe, recipe, None]
    assert read_run(folder).model_folder == folder / "best"


def test_a_folder_of_a_model_alone(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    record = read_run(tmp_path)
    assert (record.checkpoint, record.recipe, record.protocol, record.curve("loss")) == (".", "", None, ([], []))


def test_a_line_that_is_being_written_is_left_out_and_a_damaged_one_is_an_error(folder):
    log = folder / "metrics.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"event": "tr')
    assert len(read_run(folder).log) == 3
    log.write_text('{"event": "tr\n' + whole)
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 1: "):
        read_run(folder)
    log.write_text("[1]\n" + whole)
    with pytest.raises(ValueError, match=r"line 1: it has no step"):
        read_run(folder)


def test_mistakes_about_folders_are_explained(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no run folder .*nowhere; `maskris train` writes one"):
        read_run(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"neither best/ nor last/ nor metrics\.jsonl, but nothing"):
        read_run(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="but empty, run"):
        read_run(tmp_path)
    for text, words in (("a: [", "is no YAML"), ("- a", "holds no recipe")):
        (folder / "recipe.yaml").write_text(text)
        with pytest.raises(ValueError, match=words):
            read_run(folder)


def test_runs_are_called_by_what_tells_them_apart(tmp_path):
    def names(*places):
        return names_of([tmp_path / place for place in places])

    assert names("runs/a") == ["a"]
    assert names("s/CARIS/seed-0", "s/LAVT/seed-0") == ["CARIS", "LAVT"]
    assert names("s/CARIS/seed-0", "s/CARIS/seed-1") == ["seed-0", "seed-1"]
    assert names("s/CARIS/seed-0", "s/LAVT/seed-1") == ["CARIS/seed-0", "LAVT/seed-1"]
    assert names("a", "a/b") == ["a", "a/b"]
    assert names("x/y/b", "z/b") == ["x/y", "z"]
    with pytest.raises(ValueError, match=r"The run .*a is given twice"):
        names("a", "b", "a")
