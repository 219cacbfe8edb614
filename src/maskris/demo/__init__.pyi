from .app import serving as serving
from .checks import Limits as Limits
