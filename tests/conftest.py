"""Every test has a scratch folder of its own, and two workers."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def scratch_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("PARTGEN_SCRATCH", str(folder))
    monkeypatch.setenv("PARTGEN_WORKERS", "2")
    monkeypatch.delenv("PARTGEN_RAY_ADDRESS", raising=False)
    return folder
