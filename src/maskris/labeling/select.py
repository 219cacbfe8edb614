"""One map for a referent from the maps of its expressions."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from maskris.data.preprocess import Preprocess
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.labeling.teachers.base import Finding
from maskris.models.base import weights_sha256
from maskris.models.clip.scorer import CLIPScorer

Selection = Literal["prms", "mean", "score", "agreement"]
"""How one map is made of several.

``"mean"`` averages them; ``"score"`` takes that of the expression of which the teacher is surest; ``"agreement"`` the
one most similar to the others; ``"prms"`` the one below which the photo fits all expressions best, as a CLIP sees it
(positive response map selection; TRIS, Liu et al., ICCV 2023).
"""

Map = npt.NDArray[np.float32]


class ResponseMapScorer:
    """The judge of ``"prms"``: which of several maps leaves most of what the expressions say.

    Photos are stretched to 320 x 320 and normalized as ImageNet's, maps multiply them as they are, both as published.

    Args:
        scorer: The CLIP.
        tokenizer: Of its vocabulary.
    """

    def __init__(self, scorer: CLIPScorer, tokenizer: ExpressionTokenizer) -> None:
        self.scorer, self.tokenizer = scorer, tokenizer
        self.preprocess = Preprocess(320, 320)

    @property
    def origin(self) -> str:
        """What judges, for `Referent.mask_origin`."""
        return f"CLIP {weights_sha256(self.scorer)[:12]}"

    def scores(self, photo: Image.Image, maps: Sequence[Map], expressions: Sequence[str]) -> npt.NDArray[np.float64]:
        """The score of each of the maps ``[h, w]`` of an upright RGB photo: ``[K]``."""
        device = next(self.scorer.parameters()).device
        image = self.preprocess.normalize(self.preprocess.image(photo)[None].to(device))
        input_ids = self.tokenizer(list(expressions)).input_ids.to(device)
        planes = [torch.from_numpy(np.ascontiguousarray(one))[None, None].to(device) for one in maps]
        return response_scores(self.scorer, image, planes, input_ids).double().cpu().numpy()


@torch.inference_mode()
def response_scores(scorer: CLIPScorer, image: Tensor, maps: Sequence[Tensor], input_ids: Tensor) -> Tensor:
    """For each map the sum of the similarities, over all sentences, to what it leaves of the image.

    Args:
        scorer: The CLIP.
        image: ``[1, 3, H, W]`` normalized.
        maps: `K` of ``[1, 1, h, w]``.
        input_ids: ``[K, L]``.

    Returns:
        ``[K]``.
    """
    seen = torch.cat([scorer.embed_images(image, one) for one in maps])  # [K, D]
    similar: Tensor = seen @ scorer.embed_texts(input_ids).T
    return similar.sum(1)


def select_map(
    findings: Sequence[Finding],
    how: Selection,
    *,
    relative: bool = False,
    judge: Callable[[Sequence[Map]], npt.NDArray[np.float64]] | None = None,
) -> tuple[Map, float | None]:
    """The map of a referent and how sure the teacher is of it.

    Args:
        findings: Of all expressions, at least one; of equals the first is taken.
        how: See `Selection`.
        relative: Whether only the order of a map's values means something: each is divided by its maximum before maps
            are compared or averaged.
        judge: Scores of maps for ``"prms"``.

    Returns:
        The map ``[h, w]``, and the score: that of the chosen expression, or the mean for ``"mean"``; ``None`` where
        the teacher gives none.

    Raises:
        ValueError: If the selection is by a score that the teacher doesn't give, or by a judge that is missing.
    """
    maps = [np.asarray(one.map, dtype=np.float32) for one in findings]
    scores = [one.score for one in findings]
    known = [one for one in scores if one is not None]
    if how == "mean":
        return _mean(maps, relative), sum(known) / len(known) if len(known) == len(scores) else None
    if how == "score":
        if len(known) < len(scores):
            raise ValueError("This teacher doesn't say how sure it is: select by mean, agreement or prms")
        best = int(np.argmax(known))
    elif how == "agreement":
        best = int(np.argmax(agreement(maps, relative)))
    else:
        if judge is None:
            raise ValueError("prms needs a judge of the maps")
        best = int(np.argmax(judge(maps))) if len(maps) > 1 else 0
    return maps[best], scores[best]


def agreement(maps: Sequence[Map], relative: bool = False) -> npt.NDArray[np.float64]:
    """How similar each map is to the others: the mean of sum(min) / sum(max), which is the IoU for masks; ``[K]``."""
    planes = np.stack(_alike(maps, relative)).astype(np.float64)
    found = np.zeros(len(planes))
    for i, one in enumerate(planes):
        for other in (other for j, other in enumerate(planes) if j != i):
            union = np.maximum(one, other).sum()
            found[i] += np.minimum(one, other).sum() / union if union else 1.0
    return found / max(1, len(planes) - 1)


def _mean(maps: Sequence[Map], relative: bool) -> Map:
    if len(maps) == 1:
        return maps[0]
    return np.asarray(np.mean(_alike(maps, relative), axis=0, dtype=np.float64), dtype=np.float32)


def _alike(maps: Sequence[Map], relative: bool) -> list[Map]:
    """Maps of one size, that of the first, and of one range."""
    resized = [one if one.shape == maps[0].shape else resize(one, maps[0].shape[0], maps[0].shape[1]) for one in maps]
    return [one / one.max() if relative and one.max() > 0 else one for one in resized]


def resize(values: Map, height: int, width: int) -> Map:
    """A map ``[h, w]`` as ``[height, width]``, bilinearly (corners of pixels fixed, no antialiasing)."""
    if values.shape == (height, width):
        return values
    plane = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
    enlarged = torch.nn.functional.interpolate(plane, (height, width), mode="bilinear", align_corners=False)
    return np.asarray(enlarged[0, 0].numpy())
