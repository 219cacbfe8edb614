"""What tests of the extra ``photos`` share."""

from importlib.metadata import PackageNotFoundError, distribution

import pytest

from maskris.models.encoders.packaged import PACKAGED


def require_photos() -> None:
    """Skip the test where the extra is not installed; it is among those of the tests."""
    try:
        for packaged in PACKAGED.values():
            distribution(packaged.distribution)
        distribution("timm")
    except PackageNotFoundError as error:
        pytest.skip(f"the extra photos is not installed: {error}")
