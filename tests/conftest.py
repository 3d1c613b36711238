import os
from pathlib import Path

import hypothesis
import pytest
from helpers import require

hypothesis.settings.register_profile("geolib", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("geolib")


@pytest.fixture
def root() -> Path:
    """The repository's top folder."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets that GEOLIB_DATA names."""
    folder = os.environ.get("GEOLIB_DATA", "")
    require(bool(folder), "GEOLIB_DATA, a folder with mnist/, fashion-mnist/ and cifar-10-batches-bin/")
    return Path(folder)
