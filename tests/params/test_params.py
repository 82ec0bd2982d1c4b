"""params.yaml, the presets, and what a mistake in them says."""

import errno
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.errors import UserError
from pipeline.params.all import GROUPS, check_params
from pipeline.params.base import load_group, with_overrides
from pipeline.params.render import RenderParams
from stages import doctor
from stages.cli import preset as write_preset

PROJECT = Path(__file__).parents[2]
PRESETS = sorted((PROJECT / "presets").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_are_complete(preset: Path) -> None:
    assert list(check_params(path=preset)) == list(GROUPS)


def test_default_is_nano() -> None:
    assert yaml.safe_load((PROJECT / "params.yaml").read_text()) == yaml.safe_load(
        (PROJECT / "presets/nano.yaml").read_text()
    )


def test_every_parameter_is_documented() -> None:
    def undocumented(name: str, group: type[BaseModel]) -> Iterator[str]:
        if not group.__doc__:
            yield name
        for key, field in group.model_fields.items():
            nested = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
            models = [kind for kind in nested if issubclass(kind, BaseModel)]
            for model in models:
                yield from undocumented(f"{name}.{key}", model)
            if not models and not field.description:
                yield f"{name}.{key}"

    assert not [key for name, group in GROUPS.items() for key in undocumented(name, group)]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("rendr.samples=4", r"no group `rendr` \(did you mean `render`\?\)"),
        ("render.sampels=4", r"`render` has no key `sampels` \(did you mean `samples`\?\)"),
        ("render.samples=many", r"`samples` is 'many'"),
        ("render.samples=1.5", r"`samples` is 1.5"),
        ("render.samples=[", r"not a YAML value"),
        ("render=4", r"not of the form group.key=value"),
        ("render.samples", r"not of the form group.key=value"),
    ],
)
def test_a_bad_override_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as raised:
        check_params([override], PROJECT / "params.yaml")
    assert "\n" not in str(raised.value)


def test_an_unknown_key_in_the_file_names_the_nearest(tmp_path: Path) -> None:
    text = re.sub(r"^  samples:", "  sampels:", (PROJECT / "params.yaml").read_text(), flags=re.MULTILINE)
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"unknown key `sampels` \(did you mean `samples`\?\)"):
        load_group(RenderParams, path=path)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "", "render: 3", "\x00"])
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        load_group(RenderParams, path=path)
    assert "\n" not in str(raised.value)


@given(st.integers(), st.text(st.characters(codec="ascii", categories=["L"]), min_size=1))
def test_overrides_change_one_value_and_leave_the_original(number: int, other: str) -> None:
    values = {"a": {"b": 1, "c": {"d": other}}}
    assert with_overrides(values, [f"a.c.d={number}"]) == {"a": {"b": 1, "c": {"d": number}}}
    assert values == {"a": {"b": 1, "c": {"d": other}}}


def partgen(*arguments: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    program = "from stages.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["preset", "nanno"], "There is no preset `nanno` (did you mean `nano`?)"),
        (["stage", "rendr"], "There is no stage `rendr` (did you mean `render`?)"),
        (["stage", "render", "--set", "render.samples=x"], "`samples` is 'x'"),
    ],
)
def test_the_command_line_says_mistakes_in_one_sentence(arguments: list[str], sentence: str) -> None:
    done = partgen(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_preset_keeps_the_file_it_replaces(tmp_path: Path) -> None:
    (tmp_path / "presets").symlink_to(PROJECT / "presets")
    (tmp_path / "params.yaml").write_text("mine: 1\n")
    done = partgen("preset", "sd", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "params.yaml").read_text() == (PROJECT / "presets/sd.yaml").read_text()
    assert (tmp_path / "params.yaml.bak").read_text() == "mine: 1\n"


def test_a_preset_that_cannot_be_written_leaves_the_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PROJECT / "presets", tmp_path / "presets")
    (tmp_path / "params.yaml").write_text("mine: 1\n")
    monkeypatch.chdir(tmp_path)

    def half(source: Path, target: Path) -> None:
        if "params.yaml.bak" in target.name:
            target.write_bytes(source.read_bytes())
            return
        target.write_bytes(source.read_bytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(OSError, match="No space"):
        write_preset("sd")
    assert (tmp_path / "params.yaml").read_text() == (tmp_path / "params.yaml.bak").read_text() == "mine: 1\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "params.yaml.bak", "presets"]


def test_the_doctor_looks_for_what_reconstructs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load((PROJECT / "params.yaml").read_text())

    def found(**changes: object) -> list[tuple[str, bool, bool]]:
        group = {**values["reconstruct"], **changes}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({**values, "reconstruct": group}))
        (tmp_path / "dvc.yaml").write_text("cmd: python -m stages.assets")
        return [(finding.subject, finding.ok, finding.needed) for finding in doctor._reconstructors()]

    assert found(reconstructor="carve") == []
    assert found() == [("lrm", True, False)], "the one that comes with this program"
    (tmp_path / "data/models/lrm_joint").mkdir(parents=True)
    assert found() == [("lrm", False, False)], "the project trains its own"
    assert found(reconstructor="lrm_joint") == [("lrm_joint", False, False)]
    (tmp_path / "data/models/lrm_joint/config.json").write_text("{}")
    assert found(reconstructor="lrm_joint") == [("lrm_joint", True, False)]
    assert found(reconstructor="command", command=["no-such", "{views}", "{out}"]) == [("command", False, True)]
    (tmp_path / "grm_u.pth").write_bytes(b"")
    assert found(reconstructor="carve", lgm="nowhere", grm="grm_u.pth") == [("lgm", False, False), ("grm", True, False)]
    assert found(lgm="nowhere", reconstructor="lgm") == [("lgm", False, True)]


@pytest.mark.parametrize("backend", ["describe", "openai"])
def test_the_doctor_says_what_nothing_looks_at(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load((PROJECT / "params.yaml").read_text())
    values["captions"]["backend"] = backend
    values["applications"]["safety"] = None if backend == "describe" else "my_checks"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "dvc.yaml").write_text("cmd: python -m stages.assets")
    params, captions, safety = doctor._params()
    assert params.ok
    assert not captions.needed
    assert ("no model looks at the circled pictures" in captions.text) == (backend == "describe") == (not captions.ok)
    assert safety.text.startswith("off: nothing refuses" if backend == "describe" else "my_checks may refuse")
