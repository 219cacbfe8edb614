"""Models from folders, by released names and from the Hub: where one lies, and which class it is of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskris.models.base import RISModel
from maskris.models.clipseg import CLIPSeg
from maskris.models.encoders.tokenizers import OPENAI
from maskris.models.folder import BEST, CONFIG, LAST, may_be_model, model_folder, why_no_model
from maskris.models.hub import hub_file
from maskris.models.weights.released import find_released, released_models
from maskris.models.weights.released_files import PROVENANCE, released_folder
from maskris.registry import PACKAGES, find_class
from maskris.utils.download import DownloadError
from maskris.utils.files import read_json, stand_in

_WEIGHTS_ENDINGS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".pth.tar")


def load_model(source: str | Path, model_class: type[RISModel] | str | None = None) -> RISModel:
    """Load a model from a folder, by a released name or from the Hub, in evaluation mode.

    The class that ``config.json`` names is looked up among those of this package and those that are imported already.
    Foreign code is never imported because a file names it. A CLIPSeg as `transformers` writes it loads too.

    Args:
        source: A model folder that `RISModel.save_pretrained` wrote, a run folder (see `model_folder`), the name of a
            released checkpoint (see `released_models`), which is fetched and converted on first use, or a Hub id. A
            folder comes first.
        model_class: The model's class or its name (``my_module.MyModel``), if it is none of this package.

    Raises:
        FileNotFoundError: If there is no model at `source`.
        ValueError: If there is no such class, ``config.json`` names another one, or a file of the model is damaged.
    """
    if isinstance(model_class, str):
        model_class = find_class("model", model_class, RISModel)
    found = locate_model(source)
    try:
        config = found / CONFIG if isinstance(found, Path) else hub_file(found, CONFIG)
    except DownloadError as error:
        of_it = [name for name, one in released_models().items() if one.hub and one.hub["repo"] == found]
        hint = f"; released checkpoints of it are known as {', '.join(of_it)}" if of_it else ""
        raise FileNotFoundError(f"There is no folder {found}, and {error}{hint}") from error
    described = read_json(config)
    if "model_type" in described and "model_class" not in described:
        model = _of_transformers(found, described)
        if model_class is not None and not isinstance(model, model_class):
            raise ValueError(f"{source} holds a CLIPSeg of transformers, not a {model_class.__name__}")
        return model
    try:
        return (model_class or _class_named_by(config)).from_pretrained(str(found))
    except ValueError as error:
        if isinstance(found, Path) and (found / PROVENANCE).is_file():
            raise ValueError(f"{error}. Or remove {found}, so that `maskris models NAME` makes it anew") from error
        raise


def locate_model(source: str | Path) -> Path | str:
    """Where a model lies: its folder, or the same Hub id. A released checkpoint is fetched if it isn't there yet.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If `source` is a file.
    """
    path, name = Path(source), str(source)
    if path.is_dir():
        if (folder := model_folder(path)) is not None:
            return folder
        hint = next((f"; {_conversion(file)}" for file in sorted(path.iterdir()) if _holds_weights(file)), "")
        if not hint and find_released(name):
            hint = f". It hides the released {name}; rename it, or call the command elsewhere"
        raise FileNotFoundError(
            f"{path} holds no model: there is no {CONFIG} in it, nor in its {BEST}/ or {LAST}/{hint}"
        )
    if path.is_file():
        what = _conversion(path) if _holds_weights(path) else f"{path} is a file; a model is a folder"
        raise ValueError(stand_in(path) or what)
    if released := find_released(name):
        return released_folder(released)
    if not may_be_model(source):
        raise FileNotFoundError(why_no_model(path))
    return name


def _holds_weights(file: Path) -> bool:
    return file.is_file() and file.name.lower().endswith(_WEIGHTS_ENDINGS)


def _conversion(file: Path) -> str:
    return f"{file} is a file of weights: `maskris convert {file} --out FOLDER` makes a model of one that was published"


def _of_transformers(source: Path | str, described: Mapping[str, Any]) -> RISModel:
    """A folder or Hub id as `transformers` writes it."""
    if described["model_type"] != "clipseg":
        raise ValueError(
            f"{source} holds a {described['model_type']} of transformers, which segments nothing by itself. Of these, "
            "CLIPSeg is loaded as it is; others can be the encoder of a model that is trained, see docs/models.md"
        )
    # What transformers saves of a model lacks the tokenizer. All CLIPSegs have that of OpenAI's CLIP.
    bare = isinstance(source, Path) and not any((source / name).is_file() for name in ("tokenizer.json", "vocab.json"))
    return CLIPSeg(source, tokenizer=OPENAI if bare else None).eval()


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
