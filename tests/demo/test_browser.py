"""The demo in a real browser: what a visitor does, and which pixels change."""

import json
import zipfile
from io import BytesIO

import numpy as np
import pytest
from colors import ColorWords
from PIL import Image
from pycocotools import mask as coco

from maskris.demo.app import serving
from maskris.demo.checks import Limits
from maskris.inference.predictor import Predictor
from maskris.inference.visualize import PALETTE

pytest.importorskip("gradio")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")  # what it still uses of pandas

BRIGHT, DULL, BLUE = np.s_[8:24, 8:24], np.s_[24:40, 8:24], np.s_[8:40, 40:56]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The page of a saved model, and the model."""
    folder = tmp_path_factory.mktemp("model")
    ColorWords().save_pretrained(folder)
    predictor = Predictor.from_pretrained(folder, "cpu", model_class=ColorWords)
    with serving(predictor, Limits(megabytes=0.05, pixels=100_000)) as address:
        yield address, predictor.model


@pytest.fixture
def scene(tmp_path):
    """64 x 64 on gray: a red square, bright above and dull below, and a blue one."""
    pixels = np.full((64, 64, 3), 90, dtype=np.uint8)
    for place, color in ((BRIGHT, (255, 0, 0)), (DULL, (150, 0, 0)), (BLUE, (0, 0, 255))):
        pixels[place] = color
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


@pytest.fixture
def visit(page, served):
    page.goto(served[0])
    page.wait_for_selector("#find")
    return page


def choose(page, path):
    with page.expect_response(lambda response: "/upload" in response.url and response.request.method == "POST"):
        page.set_input_files("#photo input[type=file]", path)


def find(page, text):
    page.fill("#expressions textarea", text)
    page.click("#find")


def told(page, text):
    page.locator("#notice [role=alert]", has_text=text).wait_for()


def shown(page):
    """The picture on the page, one pixel of the photo for each block of 8 x 8: [64, 64, 3]."""
    source = page.locator("#overlay img").get_attribute("src")
    pixels = np.asarray(Image.open(BytesIO(page.request.get(source).body())).convert("RGB"))
    assert pixels.shape == (512, 512, 3)
    return pixels[4::8, 4::8].astype(int)


def changed(page, scene):
    return (shown(page) != np.asarray(Image.open(scene))).any(2)


def area(*places):
    mask = np.zeros((64, 64), dtype=bool)
    for place in places:
        mask[place] = True
    return mask


def rows(page, number):
    """The cells of the table once it has so many rows."""
    page.wait_for_function(f"document.querySelectorAll('#found tbody tr').length == {number}")
    return [row.inner_text().split("\t") for row in page.locator("#found tbody tr").all()]


def test_a_visitor_finds_things_moves_the_threshold_and_takes_them_home(visit, served, scene):
    model = served[1]
    choose(visit, scene)
    find(visit, "the red square")
    [(expression, score, box, share)] = rows(visit, 1)
    assert (expression.strip(), box, share) == ("the red square", "8, 8, 16, 32", "12.5%")
    assert 0.8 < float(score) < 1
    assert np.array_equal(changed(visit, scene), area(BRIGHT, DULL))
    red, color = np.array([255, 0, 0]), np.array([int(PALETTE[0][i : i + 2], 16) for i in (1, 3, 5)])
    assert np.abs(shown(visit)[16, 16] - (red + color) / 2).max() <= 1

    ran = model.encoded, model.asked
    slider = visit.locator("#threshold input[type=range]")
    slider.focus()
    for _ in range(45):
        slider.press("ArrowRight")
    visit.wait_for_function("document.querySelector('#found tbody').innerText.includes('6.2%')")
    assert np.array_equal(changed(visit, scene), area(BRIGHT))
    assert (model.encoded, model.asked) == ran

    find(visit, "the red square\nthe blue square")
    table = rows(visit, 2)
    assert [row[2] for row in table] == ["8, 8, 16, 16", "40, 8, 16, 32"]
    assert np.array_equal(changed(visit, scene), area(BRIGHT, BLUE))
    assert model.encoded == ran[0]
    swatches = [swatch.get_attribute("style") for swatch in visit.locator("#found tbody i").all()]
    assert swatches == [f"background:{color}" for color in PALETTE[:2]]

    with visit.expect_download() as download:
        visit.click("#get-json")
    assert download.value.suggested_filename == "scene_prediction.json"
    content = json.loads(download.value.path().read_text())
    assert content["image"] == "scene.png"
    expected = [area(BRIGHT), area(BLUE)]
    for entry, mask in zip(content["predictions"], expected, strict=True):
        assert entry["threshold"] == 0.95
        assert np.array_equal(coco.decode(entry["segmentation"]), mask)
    with visit.expect_download() as download:
        visit.click("#get-zip")
    with zipfile.ZipFile(download.value.path()) as archive:
        for entry, mask in zip(content["predictions"], expected, strict=True):
            with archive.open(f"scene/{entry['mask_file']}") as file:
                assert np.array_equal(np.asarray(Image.open(file)) == 255, mask)


def test_an_example_is_one_click(visit):
    visit.locator("#examples button.gallery-item").nth(1).click()
    visit.wait_for_selector("#found tbody tr")
    assert len(visit.input_value("#expressions textarea").splitlines()) == len(rows(visit, 3))
    assert visit.locator("#photo img").count() == 1


def test_bad_uploads_and_missing_words_are_told_kindly(visit, scene, tmp_path):
    (tmp_path / "letter.png").write_text("Dear Sir or Madam")
    choose(visit, tmp_path / "letter.png")
    told(visit, "letter.png is not a photo that can be read here. JPEG, PNG, WebP")
    assert visit.locator("#photo img").count() == 0

    Image.new("RGB", (400, 400)).save(tmp_path / "wide.png")
    choose(visit, tmp_path / "wide.png")
    told(visit, "400 x 400 pixels")

    find(visit, "red")
    told(visit, "Choose a photo first")

    choose(visit, scene)
    visit.wait_for_selector("#notice", state="detached")
    visit.wait_for_selector("#photo img")
    find(visit, "  \n ")
    told(visit, "Say what to look for")
    assert visit.locator("#get-zip").is_disabled()

    (tmp_path / "huge.png").write_bytes(b"0" * 60_000)
    visit.set_input_files("#photo input[type=file]", tmp_path / "huge.png", timeout=3000)
    visit.wait_for_selector(".toast-body")
    assert "exceed the maximum allowed size" in visit.locator(".toast-body").inner_text()


def test_hostile_names_and_words_stay_text(visit, scene, tmp_path):
    evil = tmp_path / "<img src=x onerror=alert(1)>.png"
    evil.write_bytes(scene.read_bytes())
    alerts = []
    visit.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    choose(visit, evil)
    find(visit, "<img src=x onerror=alert(2)> red")
    rows(visit, 1)
    assert visit.locator("#found").inner_text().count("<img src=x onerror=alert(2)>") == 1
    assert visit.locator("#found img").count() == 0
    with visit.expect_download() as download:
        visit.click("#get-json")
    assert json.loads(download.value.path().read_text())["image"] == "img src_x onerror_alert(1).png"
    assert not alerts


def test_visitors_do_not_see_each_other(chromium, served, scene):
    pages = [chromium.new_context().new_page() for _ in range(2)]
    for page, words in zip(pages, ("red", "blue"), strict=True):
        page.goto(served[0])
        page.wait_for_selector("#find")
        choose(page, scene)
        page.fill("#expressions textarea", words)
    for page in pages:
        page.click("#find")
    assert [rows(page, 1)[0][0].strip() for page in pages] == ["red", "blue"]
    for page, mask in zip(pages, (area(BRIGHT, DULL), area(BLUE)), strict=True):
        assert np.array_equal(changed(page, scene), mask)
        page.context.close()


def test_narrow_pages_have_one_column(visit):
    visit.set_viewport_size({"width": 420, "height": 900})
    visit.locator("#examples button.gallery-item").first.click()
    visit.wait_for_selector("#found tbody tr")
    tops = [visit.locator(name).bounding_box()["y"] for name in ("#photo", "#find", "#overlay", "#found", "#examples")]
    assert tops == sorted(tops)
    assert visit.evaluate("document.documentElement.scrollWidth") <= 420
