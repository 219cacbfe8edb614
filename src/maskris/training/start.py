"""`take_weights`: a training starts from the weights of a trained model."""

from pathlib import Path

from maskris.models.base import RISModel, load_model

_SHOWN = 3
_ADVICE = "train by the recipe that it was made with (the recipe.yaml of its run), or by one with the same model"


def take_weights(model: RISModel, source: str | Path) -> None:
    """Give a model the weights of another one with the same network and vocabulary.

    What isn't weights stays as it is: learning rates of parts, dropout, the size of the input where the network allows
    several.

    Args:
        model: Gets the weights.
        source: Run folder (its ``best`` before its ``last``), folder of a model, or Hub id.

    Raises:
        FileNotFoundError: If there is no model at `source`.
        ValueError: If it is of another class, network or vocabulary.
    """
    trained = load_model(source, type(model))
    if trained.tokenizer.tokenizer.get_vocab() != model.tokenizer.tokenizer.get_vocab():
        raise ValueError(f"{source} has another vocabulary than the model to train; {_ADVICE}")
    theirs, ours = trained.state_dict(), model.state_dict()
    different = [name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape]
    different += [name for name in theirs if name not in ours]
    if different:
        some = ", ".join(different[:_SHOWN]) + (", …" if len(different) > _SHOWN else "")
        raise ValueError(
            f"{source} is another network than the model to train: {len(different)} weights are in one of them only "
            f"or of other shapes ({some}); {_ADVICE}"
        )
    model.load_state_dict(theirs)
