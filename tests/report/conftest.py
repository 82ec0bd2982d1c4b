"""The toy project of `tests.toy_report`, made once and copied by the tests that change it."""

from pathlib import Path

import pytest

from tests.shared import made_once
from tests.toy_report import write_toy_project


@pytest.fixture(scope="session")
def toy_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder, to be copied from."""
    return made_once(tmp_path_factory, "toy_project", write_toy_project)
