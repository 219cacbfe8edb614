"""How much of its quality a model keeps when pictures and words get worse."""

from maskris.evaluation.robustness.comparison import RobustnessComparison as RobustnessComparison
from maskris.evaluation.robustness.corruptions import Corruption as Corruption
from maskris.evaluation.robustness.language import language_breakdown as language_breakdown
from maskris.evaluation.robustness.measure import measure_robustness as measure_robustness
from maskris.evaluation.robustness.occlusion import ContextOcclusion as ContextOcclusion
from maskris.evaluation.robustness.occlusion import PatchOcclusion as PatchOcclusion
from maskris.evaluation.robustness.occlusion import ReferentOcclusion as ReferentOcclusion
from maskris.evaluation.robustness.results import Robustness as Robustness
from maskris.evaluation.robustness.suite import CLEAN as CLEAN
from maskris.evaluation.robustness.suite import Condition as Condition
from maskris.evaluation.robustness.suite import make_suite as make_suite
from maskris.evaluation.robustness.text import DroppedWords as DroppedWords
from maskris.evaluation.robustness.text import MaskedWords as MaskedWords
from maskris.evaluation.robustness.text import NoLocationWords as NoLocationWords
from maskris.evaluation.robustness.text import ShuffledWords as ShuffledWords
from maskris.evaluation.robustness.text import Synonyms as Synonyms
from maskris.evaluation.robustness.text import Typos as Typos
