"""The trials: what is prepared once is disturbed many times, and judged."""

import hashlib
import random
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.corruptor import DAMAGES, corrupt
from tests.faults.injector import Fault, operations
from tests.faults.server import Ended, Job, Server

TARGETS, READERS, CASES = "tests.faults.targets:TARGETS", "tests.faults.readers:READERS", "tests.faults.hostile:CASES"
IGNORED = ("/tensorboard/", "/locks/", "/__pycache__/")
"""Logs with the time in them, locks named after the project's folder."""
MEMORY_GIB, CPU_S, HOSTILE_S = 4.0, 60, 120.0
LONG_S = 600.0


@dataclass(frozen=True)
class Outcome:
    """One trial."""

    fault: str
    target: str
    where: str
    """Which operation, file or place was hit."""
    failed: str = ""
    """Why it was not survived; empty when it was."""


class Bench:
    """A folder for trials, and the server that runs them."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        self._trials = 0

    def prepared(self, table: str, name: str) -> Path:
        """The project of a target or reader, before it is disturbed; made once."""
        folder = self.folder / "prepared" / name.replace("/", "-")
        if not folder.exists():
            folder.mkdir(parents=True)
            ended = self.server.run(Job(f"{table}[{name!r}].prepare", folder, timeout_s=LONG_S))
            if ended.status:
                shutil.rmtree(folder)
                raise RuntimeError(f"{name} could not be prepared: {ended.stderr}")
        return folder

    @property
    def next_folder(self) -> Path:
        """Where the next trial may be."""
        self._trials += 1
        return self.folder / "trials" / str(self._trials)

    def copy(self, prepared: Path) -> Path:
        """A copy of a project, to be disturbed."""
        folder = self.next_folder
        shutil.copytree(prepared, folder, symlinks=True)
        return folder


def disturbed(bench: Bench, name: str, kinds: Iterable[str], every: int, most: int = 10**9) -> Iterator[Outcome]:
    """A target with each kind of fault, at every `every`-th of its operations, at `most` places."""
    outs, prepared = bench.server.targets[name], bench.prepared(TARGETS, name)
    calm = bench.copy(prepared)
    log = bench.folder / "log"
    before = [_tree(prepared, out) for out in outs]
    counts = {}
    for kind in ("count", "tear"):  # the latter counts writes alone; the second run tells whether all is as it was
        _forget(log)
        ended = _work(bench, name, calm if kind == "count" else bench.copy(prepared), log, Fault(kind))
        if ended.status:
            raise RuntimeError(f"{name} does not even work undisturbed: {ended.stderr}")
        counts[kind] = len(operations(log))
    wanted, after = _tree(calm), [_tree(calm, out) for out in outs]
    for kind in kinds:
        places = range(1, counts["tear" if kind == "tear" else "count"] + 1, every)
        step = -(-len(places) // most) if places else 1
        for at in places[::step]:
            _forget(log)
            folder = bench.copy(prepared)
            ended = _work(bench, name, folder, log, Fault(kind, at))
            done = operations(log)
            hit = done[at - 1].replace(f"{folder}/", "") if at <= len(done) else "nothing"
            found = [_tree(folder, out) for out in outs]
            failed = _judged(kind, ended) or _lost(outs, before, found, after, ended)
            failed = failed or _recovered(bench, name, folder, wanted)
            shutil.rmtree(folder)
            yield Outcome(kind, name, f"{at} {hit}", failed)


def corrupted(bench: Bench, name: str, every: int = 1, most: int = 10**9) -> Iterator[Outcome]:
    """A reader with each kind of damage to its files; of all pairs of a file and a damage every `every`-th."""
    prepared = bench.prepared(READERS, name)
    wanted = _read(bench, name, bench.copy(prepared))
    if wanted.status:
        raise RuntimeError(f"{name} does not even read what is whole: {wanted.stderr}")
    files = sorted(path.relative_to(prepared) for path in prepared.glob(bench.server.readers[name]) if path.is_file())
    if not files:
        raise RuntimeError(f"{name}: no file is called {bench.server.readers[name]}")
    pairs = [(file, how) for file in files for how in DAMAGES if how != "json" or file.suffix == ".json"]
    random.Random(name).shuffle(pairs)
    for number, (file, how) in enumerate(pairs[::every][:most]):
        folder = bench.copy(prepared)
        if corrupt(folder / file, how, number):
            ended = _read(bench, name, folder)
            yield Outcome("corrupt", name, f"{how} {file}", _noticed(ended, wanted, file))
        shutil.rmtree(folder)


def attacked(bench: Bench, name: str) -> Iterator[Outcome]:
    """A hostile input."""
    folder = bench.next_folder / "case"
    made = bench.server.run(Job(f"{CASES}[{name!r}].make", folder, timeout_s=LONG_S))
    if made.status:
        raise RuntimeError(f"{name} could not be made: {made.stderr}")
    ended = bench.server.run(
        Job(
            f"{CASES}[{name!r}].read",
            folder,
            timeout_s=HOSTILE_S,
            memory_gib=MEMORY_GIB,
            cpu_s=CPU_S,
            watched=not name.startswith(("assets: ", "picture: ")),
        )
    )
    shutil.rmtree(folder.parent, ignore_errors=True)
    failed = f"opened: {ended.outside[0]}" if ended.outside else _judged("hostile", ended)
    yield Outcome("hostile", name.partition(": ")[0] if ": " in name else "object", name, failed)


def _work(bench: Bench, name: str, folder: Path, log: Path, fault: Fault) -> Ended:
    return bench.server.run(Job(f"{TARGETS}[{name!r}].work", folder, fault.environment(log, folder), LONG_S))


def _read(bench: Bench, name: str, folder: Path) -> Ended:
    return bench.server.run(Job(f"{READERS}[{name!r}].read", folder, timeout_s=LONG_S))


def _forget(log: Path) -> None:
    log.unlink(missing_ok=True)


def _judged(kind: str, ended: Ended) -> str:
    """How the process ended under the fault: killed as it was meant, well, or with one sentence."""
    if ended.timed_out:
        return "hangs"
    if ended.left:
        return f"left running: {ended.left[0]}"
    if ended.status == 0 or ended.sentence or (kind in ("kill", "tear") and ended.status == -9):
        return ""
    return f"status {ended.status}: {ended.last_words}"


def _lost(outs: tuple[str, ...], before: list, found: list, after: list, ended: Ended) -> str:
    for out, old, now, new in zip(outs, before, found, after, strict=True):
        if now not in (old, new):
            return f"lost: {out} is {'not there' if not now else 'neither the older one nor the new'}"
        if ended.status == 0 and now != new:
            return f"silent: exit status 0, and {out} is the older one"
    return ""


def _recovered(bench: Bench, name: str, folder: Path, wanted: dict[str, str]) -> str:
    """Undisturbed again, the same files with the same bytes, and no others."""
    ended = _work(bench, name, folder, bench.folder / "log", Fault())
    if ended.status:
        return f"again: status {ended.status}: {ended.last_words}"
    found = _tree(folder)
    if left := sorted(found.keys() - wanted.keys()):
        return f"left: {left[0]}"
    different = sorted(file for file in wanted if found.get(file) != wanted[file])
    return f"other bytes: {different[0]}" if different else ""


def _noticed(ended: Ended, wanted: Ended, file: Path) -> str:
    """A damaged file is named, or what is read or made of it is what it would have been."""
    if ended.status == 0:
        return "" if ended.stdout == wanted.stdout else "silent: another result"
    if failed := _judged("corrupt", ended):
        return failed
    named = (str(file), str(file.parent), file.name)
    return "" if any(name in ended.sentence for name in named) else f"does not name the file: {ended.sentence[:90]}"


def _tree(folder: Path, out: str = "") -> dict[str, str]:
    """The files below a folder, or of one of its outputs, and their digests; empty folders, too."""
    root = folder / out
    paths = [root] if root.is_file() else sorted(root.rglob("*"))
    found = {}
    for path in paths:
        name = str(path.relative_to(folder))
        if any(part in f"/{name}/" for part in IGNORED):
            continue
        if path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_dir() and not any(path.iterdir()):
            found[name] = "empty"
    return found
