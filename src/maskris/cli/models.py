"""List released checkpoints, or fetch one."""

from pathlib import Path

from maskris.cli.common import say, show_whole


def models(name: str | None = None, *, from_: Path | None = None) -> None:
    """List the released checkpoints that every command knows by name, or fetch one and print its folder.

    A command that names one fetches it by itself. It is downloaded once, held against its hash and converted; nothing
    in the file is executed. HF_ENDPOINT and HF_HUB_OFFLINE are respected, and MASKRIS_CACHE names another cache.

    Args:
        name: The one to fetch.
        from_: Its published file, if you have downloaded it yourself.
    """
    from maskris.models.weights.released import released_models
    from maskris.models.weights.released_files import released_folder

    if name is not None:
        say(str(released_folder(name, source=from_)))
        return
    if from_ is not None:
        raise ValueError(f"Say which checkpoint {from_} is: maskris models NAME --from {from_}")
    show_whole(list(released_models().values()))
