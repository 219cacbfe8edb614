"""``maskris models``, and ``maskris convert`` of what is elsewhere."""

from maskris.models.loading import load_model
from maskris.models.weights.released import released_models
from maskris.models.weights.released_files import cached_folder


def test_the_list_says_what_there_is_and_what_is_here(maskris, hub, published):
    lines = maskris("models")[1].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    first = ["caris-refcoco", "maskris", "907", "MIT", "maskris", "refcoco", "75.13", "78.19", "71.75", ""]
    assert cells[2] == first
    combined = next(number for number, one in enumerate(cells) if one[0] == "caris-refcoco-combined")
    assert [one[5] for one in cells[combined : combined + 3]] == ["refcoco", "refcoco+", "refcocog"]
    assert cells[combined + 2][6:9] == ["67.95", "69.75", ""], "RefCOCOg has one test split"
    assert [one[0] for one in cells[2:] if one[0]] == [*released_models()]
    assert hub.asked == []
    assert maskris("models", "lavt-refcoco", "--from", published / "lavt.pth")[0] == 0
    here = [line.split("|")[1].strip() for line in maskris("models")[1].splitlines() if line.endswith("| yes |")]
    assert here == ["lavt-refcoco"]


def test_one_is_fetched_and_its_folder_printed(maskris, hub):
    folder = cached_folder(released_models()["caris-refcoco"])
    assert maskris("models", "caris-refcoco")[:2] == (0, f"{folder}\n")
    assert maskris("models", "caris-refcoco") == (0, f"{folder}\n", "")
    assert type(load_model(folder)).__name__ == "CARIS"


def test_what_is_wrong_is_said(maskris, hub):
    assert "There is no released checkpoint caris; `maskris models` lists them" in maskris("models", "caris")[2]
    assert "Say which checkpoint a.pth is: maskris models NAME --from a.pth" in maskris("models", "--from", "a.pth")[2]
    assert "There is no file a.pth" in maskris("models", "caris-refcoco", "--from", "a.pth")[2]
    hub.drive.clear()
    code, out, err = maskris("models", "lavt-refcoco")
    assert (code, out) == (1, "")
    assert "and give it: maskris models lavt-refcoco --from FILE" in err


def test_what_is_elsewhere_is_converted(maskris, hub, tmp_path):
    words = ["--window", "12", "--out"]
    code, out, _ = maskris("convert", "hf:saliu/CARIS/combined/refcocom.pth", *words, tmp_path / "a")
    assert code == 0
    assert "holds MaskRIS (CARIS) with" in out
    assert maskris("convert", "caris-refcoco-combined", *words, tmp_path / "b")[0] == 0
    first, second = (tmp_path / one / "model.safetensors" for one in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert load_model(tmp_path / "a").config["vision"]["window_size"] == 12
    assert hub.fetched("refcocom.pth") == 1, "the Hub's cache has it"


def test_every_command_knows_it_by_its_name(maskris, hub, squares, table, tmp_path):
    common = ["--data", table, "--splits", "val", "--workers", 0, "--device", "cpu"]
    code, _, err = maskris("evaluate", "--model", "caris-refcoco", *common, "--out", tmp_path / "rows.parquet")
    assert code == 0, err
    words = ["--gallery", 1, "--resamples", 10, "--out", tmp_path / "report.html"]
    code, _, err = maskris("report", "caris-refcoco", *common, *words)
    assert code == 0, err
    assert "<title>caris-refcoco</title>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert hub.fetched("refcoco.pth") == 1
