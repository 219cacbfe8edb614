"""How much of its quality a model keeps when pictures and words get worse."""

from maskris.evaluation.robustness.occlusion import ContextOcclusion as ContextOcclusion
from maskris.evaluation.robustness.occlusion import PatchOcclusion as PatchOcclusion
from maskris.evaluation.robustness.occlusion import ReferentOcclusion as ReferentOcclusion
