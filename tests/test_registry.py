"""Classes by name: short names in any spelling, dotted paths, and errors that help."""

import sys
from pathlib import Path

import pytest

from maskris.data.augment import Augmentation
from maskris.models.base import RISModel
from maskris.models.caris.model import CARIS
from maskris.models.lavt import LAVT
from maskris.registry import find_class, has_short_name, short_names
from maskris.strategies.base import Strategy
from maskris.strategies.ema_teacher import EMATeacher


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder with one module that is fine and one that isn't."""
    (tmp_path / "own_classes.py").write_text(
        "from maskris import CARIS, Supervised\nclass Bright(CARIS): ...\nclass Mine(Supervised): ...\n"
    )
    (tmp_path / "broken_module.py").write_text("import a_package_that_is_missing")
    monkeypatch.chdir(tmp_path)
    for name in ("own_classes", "broken_module"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize("name", ["lavt", "LAVT", "maskris.LAVT", "maskris.models.LAVT", "maskris.models.lavt.LAVT"])
def test_a_model_in_any_spelling(name: str) -> None:
    assert find_class("model", name, RISModel) is LAVT


@pytest.mark.parametrize("name", ["ema_teacher", "ema-teacher", "EMATeacher", "emateacher", "maskris.EMATeacher"])
def test_a_strategy_in_any_spelling(name: str) -> None:
    assert find_class("strategy", name, Strategy) is EMATeacher


def test_short_names() -> None:
    assert short_names("model", RISModel) == [
        "caris",
        "clipseg",
        "cris",
        "etris",
        "lavt",
        "object_ris",
        "pair_localizer",
        "sag",
        "tris",
        "tris_localizer",
    ]
    assert {"aml", "ema_teacher", "maskris", "masked_augmentation", "supervised"} <= {
        *short_names("strategy", Strategy)
    }
    augmentations = short_names("augmentation", Augmentation)
    assert "horizontal_flip" in augmentations
    assert "augmentation" not in augmentations
    for name in augmentations:
        assert issubclass(find_class("augmentation", name, Augmentation), Augmentation)
    assert has_short_name("model", CARIS)
    assert not has_short_name("model", type("CARIS", (CARIS,), {}))


def test_classes_of_ones_own(folder: Path) -> None:
    assert find_class("model", "own_classes.Bright", RISModel).__name__ == "Bright"
    assert find_class("strategy", "own_classes.Mine", Strategy).__name__ == "Mine"
    assert str(folder) not in sys.path


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "Bright",
            ValueError,
            r"There is no model 'Bright'; there are caris, clipseg, cris, etris, lavt, object_ris, pair_localizer, sag",
        ),
        ("Bright", ValueError, r"needs the module too, such as my_module\.Bright"),
        ("LAVD", ValueError, r"There is no model 'LAVD'; did you mean lavt\?"),
        ("base", ValueError, "There is no model 'base'"),
        ("tensor", ValueError, "There is no model 'tensor'"),
        ("own_classe.Bright", ValueError, "there is no module own_classe, neither in this folder nor installed"),
        ("own_classes.Dark", ValueError, "own_classes has no subclass of RISModel under the name Dark"),
        ("own_classes.sys", ValueError, "no subclass of RISModel under the name sys"),
        ("own_classes.Mine", ValueError, "no subclass of RISModel under the name Mine"),
        ("maskris.ReferringTable", ValueError, "maskris has no subclass of RISModel under the name ReferringTable"),
        ("broken_module.Bright", ModuleNotFoundError, "a_package_that_is_missing"),
    ],
)
def test_what_is_no_model(folder: Path, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_class("model", name, RISModel)
