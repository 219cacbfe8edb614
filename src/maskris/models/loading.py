"""Models from folders and the Hub: which folder of a run holds one, and which class it is of."""

from pathlib import Path

from huggingface_hub import hf_hub_download

from maskris.models.base import RISModel
from maskris.models.folder import BEST, CONFIG, LAST, may_be_model, model_folder
from maskris.registry import PACKAGES, find_class
from maskris.utils.files import read_json


def load_model(source: str | Path, model_class: type[RISModel] | str | None = None) -> RISModel:
    """Load a model from a folder or the Hub, in evaluation mode.

    The class that ``config.json`` names is looked up among those of this package and those that are imported already.
    Foreign code is never imported because a file names it.

    Args:
        source: A model folder that `RISModel.save_pretrained` wrote, a run folder (see `model_folder`), or a Hub id.
        model_class: The model's class or its name (``my_module.MyModel``), if it is none of this package.

    Raises:
        FileNotFoundError: If there is no model at `source`.
        ValueError: If there is no such class, ``config.json`` names another one, or a file of the model is damaged.
    """
    if isinstance(model_class, str):
        model_class = find_class("model", model_class, RISModel)
    path = Path(source)
    if path.is_dir():
        folder = model_folder(path)
        if folder is None:
            raise FileNotFoundError(f"{path} holds no model: there is no {CONFIG} in it, nor in its {BEST}/ or {LAST}/")
        source, config = folder, folder / CONFIG
    elif not may_be_model(source):
        raise FileNotFoundError(f"There is no folder {path}; a model is a folder or a Hub id (owner/name)")
    else:
        try:
            config = Path(hf_hub_download(str(source), CONFIG))
        except OSError as error:
            raise FileNotFoundError(f"There is no folder {path}, nor can it be had from the Hub: {error}") from error
    return (model_class or _class_named_by(config)).from_pretrained(str(source))


def _class_named_by(config: Path) -> type[RISModel]:
    """The class that a ``config.json`` names."""
    described = read_json(config)
    name, module = described.get("model_class"), described.get("model_module")
    if module is None or str(module).startswith(f"{PACKAGES['model']}."):
        path = name if module is None else f"{module}.{name}"
        try:
            if isinstance(name, str) and "." not in name:  # with a dot it would be the path of any module
                return find_class("model", path, RISModel)
        except ValueError:
            pass
        raise ValueError(f"{config} names the class {path!r}, which is no model of maskris")
    known: list[type[RISModel]] = RISModel.__subclasses__()
    for one in known:  # grows meanwhile
        known += one.__subclasses__()
    for one in reversed(known):  # the latest of a name: a notebook's cell may have run several times
        if (one.__module__, one.__name__) == (module, name):
            return one
    own = f"{'my_module' if module == '__main__' else module}.{name}"
    raise ValueError(
        f"{config} names the class {module}.{name}, which is no model of maskris and not imported yet. Code that a "
        f"file names is not run unasked; if it is yours: --model-class {own}, or load_model(..., {name})"
    )
