"""Released checkpoints as model folders in the cache: fetched once, held against their hash, converted.

The published file is removed once it is converted, unless it lies in the Hub's own cache or was given by the user.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from pathlib import Path

from huggingface_hub import snapshot_download

from maskris.models.folder import CONFIG, model_folder
from maskris.models.hub import hub_file
from maskris.models.weights.released import Released, find_released, released_models
from maskris.utils.download import DownloadError, cache_folder, download_file, note_sha256, noted_sha256
from maskris.utils.files import atomic_folder, read_json, recover_folder, sha256_of, stand_in, write_json
from maskris.utils.runstore import FolderInUseError, lock_folder

CONVERSION = 1
"""Raised when `convert_checkpoint` makes another model of the same file, so that cached ones are made anew."""

PROVENANCE = "released.json"
"""In the folder of a converted model: name, file, SHA-256, license and page of what it was made of."""

DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
DRIVE_PAGE = "https://drive.google.com/file/d/{}/view"

Say = Callable[[str], None]


def say_aside(text: str) -> None:
    """Write a line to standard error, so that results on standard output stay alone."""
    sys.stderr.write(f"{text}\n")


def cached_folder(released: Released) -> Path:
    """Where the converted model of a released checkpoint lies, or will lie."""
    return cache_folder() / "models" / f"conversion-{CONVERSION}" / released.name


def is_cached(released: Released) -> bool:
    """Whether the model of a released checkpoint can be loaded without a network."""
    return (cached_folder(released) / CONFIG).is_file()


def released_origin(source: str | Path) -> str | None:
    """The name of the released checkpoint that a model is or was converted from; ``None`` where that isn't known."""
    if (folder := model_folder(source)) is None:
        return released.name if (released := find_released(str(source))) else None
    return read_json(folder / PROVENANCE).get("name") if (folder / PROVENANCE).is_file() else None


def released_folder(released: str | Released, *, source: Path | None = None, say: Say = say_aside) -> Path:
    """The model folder of a released checkpoint, fetched and converted if it isn't in the cache yet.

    Nothing in the file is executed. Several processes wait for the one that is at work.

    Args:
        released: Its name or entry.
        source: The published file (for CLIPSeg its folder), if it was downloaded by other means; it is converted
            anew and takes the place of what is in the cache.
        say: Gets what is fetched, from where, how large it is and its license, before anything is fetched.

    Raises:
        DownloadError: If it can't be had; says what to do.
        FileNotFoundError: If there is no released checkpoint of this name, or no file `source`.
        ValueError: If its network isn't here, or the file is damaged, another one or not what was published.
    """
    entry = released if isinstance(released, Released) else find_released(released)
    if entry is None:
        close = get_close_matches(str(released), released_models(), n=1)
        hint = f"did you mean {close[0]}?" if close else "`maskris models` lists them"
        raise FileNotFoundError(f"There is no released checkpoint {released}; {hint}")
    folder = cached_folder(entry)
    if source is None and is_cached(entry):
        return folder
    with _work_on(entry, say) as work:
        recover_folder(folder)
        if source is None:
            if is_cached(entry):  # since a moment ago, by another process
                return folder
            with _fetched(entry, work, say, as_published=True) as (file, sha256):
                _convert(entry, file, sha256, folder)
        elif not source.exists():
            raise FileNotFoundError(f"There is no file {source}")
        else:
            sha256 = _checked(entry, source)
            _refuse_twin(entry, source, sha256)
            by_hand = f"maskris convert {source} --out FOLDER --tokenizer vocab.txt"
            _require_vocabulary(entry, f"With a file of it no network is needed: {by_hand}")
            _convert(entry, source, sha256, folder)
    return folder


@contextmanager
def published_file(source: str, say: Say = say_aside) -> Iterator[Path]:
    """A file of weights on this machine, on the Hub or of a released checkpoint, while the block lasts.

    Args:
        source: Its path, ``hf:owner/name/path/file.pth``, or a released name if there is no such file. What the Hub's
            own cache has or gets stays there; what is fetched by name is removed when the block ends well.
        say: As for `released_folder`.

    Raises:
        DownloadError: If it can't be had; says what to do.
        ValueError: If an address on the Hub is incomplete, or a released checkpoint is no single file that maskris
            knows, or not what was published.
    """
    if source.startswith("hf:"):
        owner, name, file = [*source.removeprefix("hf:").split("/", 2), "", ""][:3]
        if not file:
            raise ValueError(f"{source} names no file; write hf:owner/name/path/file.pth")
        yield hub_file(f"{owner}/{name}", file)
    elif not Path(source).exists() and (released := find_released(source)):
        if released.network == "clipseg":
            raise ValueError(f"{source} needs no conversion: it loads as it is, by its name")
        with _work_on(released, say) as work, _fetched(released, work, say, as_published=False) as (path, _):
            yield path
    else:
        yield Path(source)


def address(released: Released) -> str:
    """Where a released checkpoint is, for people."""
    if released.hub:
        return "/".join(["huggingface.co", *released.hub.values()])
    return DRIVE_PAGE.format(released.drive) if released.drive else str(released.url)


def size_text(released: Released) -> str:
    """Its size for people, such as ``"907 MB"``."""
    return "size unknown" if released.size is None else f"{released.size / 1e6:,.0f} MB"


@contextmanager
def _work_on(released: Released, say: Say) -> Iterator[Path]:
    """A folder for the work on a released checkpoint, for one process at a time."""
    work = cache_folder() / "models" / "work" / released.name
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"{released.name} can't be put into {cache_folder()}: {error.strerror}; MASKRIS_CACHE names another folder"
        ) from error
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_folder(work))
        except FolderInUseError:
            say(f"Another process is fetching {released.name}; waiting for it")
            stack.enter_context(lock_folder(work, timeout=-1))
        yield work


@contextmanager
def _fetched(released: Released, work: Path, say: Say, *, as_published: bool) -> Iterator[tuple[Path, str]]:
    """The published file or folder and its SHA-256, which is noted when the block ends well.

    A copy that is our own is removed then, and so is one that is not what it should be. With other options than
    published (`as_published`), that may lie in the options, and it stays.
    """
    say("\n".join(_announcement(released)))
    _check_space(released, work)
    if as_published:
        _require_vocabulary(released, _elsewhere(released))
    own = work / "files"
    file = _from_hub(released, own) if released.hub else _from_page(released, own)
    try:
        sha256 = _checked(released, file)
        yield file, sha256
    except ValueError:
        if as_published:
            shutil.rmtree(own, ignore_errors=True)
        raise
    if not (released.sha256 or noted_sha256(_record(), address(released))):
        note_sha256(_record(), address(released), sha256)
    shutil.rmtree(own, ignore_errors=True)


def _announcement(released: Released) -> Iterator[str]:
    from maskris.models.weights.networks import NETWORKS

    yield f"{released.name}: {released.title}"
    yield f"  from {address(released)} ({size_text(released)}, license {released.license})"
    if released.network in NETWORKS:
        yield f"  with the vocabulary of {NETWORKS[released.network].tokenizer} (less than 1 MB)"
    yield f"  to {cached_folder(released)}"


def _from_hub(released: Released, folder: Path) -> Path:
    """The file, or all of a repository that a model needs, without a copy in the Hub's own cache."""
    hub = released.hub or {}
    try:
        if "file" in hub:
            return hub_file(hub["repo"], hub["file"], folder)
        hub_file(hub["repo"], CONFIG, folder)
        needed = ["*.json", "*.txt", "model.safetensors"]
        return Path(snapshot_download(hub["repo"], allow_patterns=needed, local_dir=folder))
    except Exception as error:  # snapshot_download lets those of the Hub's HTTP library through
        raise DownloadError(f"{released.name} is not here yet, and {error}\n{_elsewhere(released)}") from error


def _require_vocabulary(released: Released, advice: str) -> None:
    """Have the vocabulary before much is fetched or computed; without a network, its reader would ask for a minute."""
    from maskris.models.encoders.tokenizers import load_tokenizer
    from maskris.models.weights.networks import NETWORKS

    if released.network in NETWORKS:
        try:
            hub_file(tokenizer := NETWORKS[released.network].tokenizer, "tokenizer_config.json")
            load_tokenizer(tokenizer)
        except OSError as error:
            raise DownloadError(f"The vocabulary of {released.name} is not here yet: {error}\n{advice}") from error


def _elsewhere(released: Released) -> str:
    name, target = released.name, cached_folder(released)
    return (
        f"If there is no network here, `maskris models {name}` on another machine fetches it; copy the folder that it "
        f"names to {target}, or name the copy as the model"
    )


def _from_page(released: Released, folder: Path) -> Path:
    """The file from Google Drive or another address."""
    page, url = address(released), str(released.url)
    hint = f"Open {page} in a browser, download the file, and give it: maskris models {released.name} --from FILE"
    if released.drive:
        url = DRIVE.format(released.drive)
        hint = (
            "Google Drive refuses files that are fetched often, and some networks; a browser is still served: open "
            f"{page}, download the file, and give it: maskris models {released.name} --from FILE"
        )
    file = folder / f"{released.name}.pth"
    return download_file([url], file, size=None, sha256=released.sha256, label=released.name, hint=hint)


def _check_space(released: Released, folder: Path) -> None:
    needed, free = 2 * (released.size or 0), shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{released.name} needs {needed / 1e6:,.0f} MB in {folder} for the file and the model, where "
            f"{free / 1e6:,.0f} MB are free; MASKRIS_CACHE names another folder"
        )


def _record() -> Path:
    return cache_folder() / "models" / "sha256.json"


def _checked(released: Released, file: Path) -> str:
    """The SHA-256 of the published file, held against the one that is published or was recorded on first use."""
    if released.network == "clipseg" and not file.is_dir():
        raise ValueError(f"{released.name} is a folder as transformers writes it, not a file like {file}")
    weights = file / "model.safetensors" if file.is_dir() else file
    if not weights.is_file():
        raise ValueError(f"{file} holds no {weights.name}")
    if wrong := stand_in(weights):
        raise ValueError(wrong)
    found, known = sha256_of(weights), released.sha256 or noted_sha256(_record(), address(released))
    if known and found != known:
        origin = "was published" if released.sha256 else f"was recorded on first use (in {_record()})"
        raise ValueError(
            f"{weights} is not the file of {released.name} that {origin}: its SHA-256 is {found}, not {known}. Either "
            "another file was put in its place, or the download is damaged"
            + ("" if released.sha256 else "; if the new file is right, remove the old hash there")
        )
    return found


def _refuse_twin(released: Released, file: Path, sha256: str) -> None:
    """Refuse a file of which another released checkpoint was made; many have one network, and no published hash."""
    for one in released_models().values():
        origin = cached_folder(one) / PROVENANCE
        if one != released and origin.is_file() and read_json(origin).get("sha256") == sha256:
            raise ValueError(
                f"{file} can't be {released.name}: {one.name} in {origin.parent} was made of the same file. If that "
                "was wrong, remove this folder first"
            )


def _convert(released: Released, file: Path, sha256: str, folder: Path) -> None:
    from maskris.models.clipseg import CLIPSeg  # here, because the command that lists models starts without PyTorch
    from maskris.models.weights.convert import convert_checkpoint

    with atomic_folder(folder) as new:
        if released.network == "clipseg":
            CLIPSeg(file).save_pretrained(new)
        else:
            report = convert_checkpoint(file, new)
            if report.kind != released.network:
                raise ValueError(f"{file} holds {report.kind}, but {released.name} is {released.network}")
        origin = {"name": released.name, "file": address(released), "sha256": sha256}
        write_json(new / PROVENANCE, origin | {"license": released.license, "page": released.page})
    for number in range(1, CONVERSION):  # what an older version has made of it
        shutil.rmtree(folder.parents[1] / f"conversion-{number}" / released.name, ignore_errors=True)
