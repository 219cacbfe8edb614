"""How much of its quality a model keeps when pictures and words get worse."""

from maskris.robustness.benchmark import run_robustness as run_robustness
from maskris.robustness.corruptions import Corruption as Corruption
from maskris.robustness.language import language_breakdown as language_breakdown
from maskris.robustness.occlusion import ContextOcclusion as ContextOcclusion
from maskris.robustness.occlusion import PatchOcclusion as PatchOcclusion
from maskris.robustness.occlusion import ReferentOcclusion as ReferentOcclusion
from maskris.robustness.results import Robustness as Robustness
from maskris.robustness.results import RobustnessComparison as RobustnessComparison
from maskris.robustness.suite import CLEAN as CLEAN
from maskris.robustness.suite import Condition as Condition
from maskris.robustness.suite import make_suite as make_suite
from maskris.robustness.text import DroppedWords as DroppedWords
from maskris.robustness.text import MaskedWords as MaskedWords
from maskris.robustness.text import NoLocationWords as NoLocationWords
from maskris.robustness.text import ShuffledWords as ShuffledWords
from maskris.robustness.text import Synonyms as Synonyms
from maskris.robustness.text import Typos as Typos
