"""A project with the stages of the real one, as a diamond, whose work takes no time: flows without Blender."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
NEEDS: dict[str, list[str]] = {"assets": [], "render": ["assets"], "masks": ["assets"], "captions": ["render", "masks"]}
PROGRAM = """
import json, pathlib, signal, subprocess, sys, time, yaml
name, *needs = sys.argv[1:]
how = json.loads(pathlib.Path("behaviour.json").read_text()).get(name, {})
share = yaml.safe_load(pathlib.Path("params.yaml").read_text())[name]["max_failed_share"]
print(f"{name} starts", flush=True)
if how.get("daemon"):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
started = time.time()
pathlib.Path("times", f"{name}-started").touch()
while "meets" in how and not pathlib.Path("times", f"{how['meets']}-started").exists() and time.time() < started + 60:
    time.sleep(0.1)
time.sleep(how.get("seconds", 0))
if how.get("fail"):
    sys.exit(f"partgen: {name} has nothing to draw; give it something.")
out = pathlib.Path("out", name)
out.mkdir(parents=True)
inputs = [float(pathlib.Path("out", need, "value").read_text()) for need in needs]
(out / "value").write_text(str(share + sum(inputs)))
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path("metrics", f"{name}.json").write_text(json.dumps({"share": share, "inputs": {"count": len(inputs)}}))
pathlib.Path("times", name).write_text(f"{started} {time.time()}")
"""


def make_toy_project(folder: Path) -> Path:
    """A Git and DVC project in `folder`, with params that the real groups accept."""
    stages = {
        name: {
            "cmd": f"python work.py {' '.join([name, *needs])}",
            "params": [name],
            "deps": ["work.py", *(["sources"] if not needs else []), *(f"out/{need}" for need in needs)],
            "outs": [f"out/{name}"],
            "metrics": [{f"metrics/{name}.json": {"cache": False}}],
            "meta": {"device": "gpu" if name == "render" else "cpu"},
        }
        for name, needs in NEEDS.items()
    }
    (folder / "sources").mkdir(parents=True)
    (folder / "times").mkdir()
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (folder / "work.py").write_text(PROGRAM)
    (folder / "sources" / "tracked").write_text("1")
    (folder / "sources" / "downloaded").write_text("2")
    (folder / "times" / "README").write_text("When each stage ran.")
    (folder / ".gitignore").write_text(".partgen\n/out\n/times/*\n!/times/README\n/sources/downloaded\n")
    shutil.copy(ROOT / "presets" / "nano.yaml", folder / "params.yaml")
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    behave(folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    return folder


def behave(folder: Path, **stages: dict[str, Any]) -> None:
    """Say how stages shall behave: seconds it takes, fail, daemon, and another stage that it meets while both run."""
    (folder / "behaviour.json").write_text(json.dumps(stages))
