"""Where models lie: the folders of a run, and what may be a model at all."""

from difflib import get_close_matches
from pathlib import Path

from maskris.models.weights.released import find_released, released_models

CONFIG = "config.json"  # in every folder with a model
LAST, BEST = "last", "best"  # in a run folder: the checkpoint to continue from, the model with the best evaluation


def model_folder(path: str | Path) -> Path | None:
    """The folder with the model of a run or a model folder: the folder itself, else its ``best``, else its ``last``.

    Returns:
        ``None`` if none of them holds a model.
    """
    folders = (Path(path) / name for name in ("", BEST, LAST))
    return next((folder for folder in folders if (folder / CONFIG).is_file()), None)


def called(source: str | Path) -> str:
    """What a model is called beside its results: ``"a"`` for ``runs/a/best``; a released name or Hub id as it is."""
    path = Path(source)
    if not path.is_dir():
        return str(source)
    path = path.resolve()
    return path.parent.name if path.name in (BEST, LAST) else path.name


def why_no_model(source: str | Path) -> str:
    """Why what `may_be_model` refuses is no model, with the name that was perhaps meant."""
    close = get_close_matches(str(source), released_models(), n=1, cutoff=0.8)
    known = "a model is a folder, a name of `maskris models` or a Hub id (owner/name)"
    return f"There is no folder {source}; {f'did you mean {close[0]}?' if close else known}"


def may_be_model(source: str | Path) -> bool:
    """Whether it is a folder, a released name, or has the form of a Hub id, owner/name; else nothing is asked for."""
    path, name = Path(source), str(source)
    hub_id = not path.is_absolute() and not name.startswith(".") and name.count("/") == 1
    return path.is_dir() or find_released(name) is not None or hub_id
