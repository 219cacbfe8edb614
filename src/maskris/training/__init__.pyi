from .checkpoint import CheckpointError as CheckpointError
from .config import TrainingConfig as TrainingConfig
from .run_record import RunRecord as RunRecord
from .run_record import read_run as read_run
from .trainer import NonFiniteError as NonFiniteError
from .trainer import Trainer as Trainer
from .trainer import TrainingResult as TrainingResult
from .trainer import load_initial_weights as load_initial_weights
