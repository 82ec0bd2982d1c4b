"""Objects: chains of result folders, of which nothing is overwritten; undo and redo move a pointer.

Below the folder of results an object is a folder of its own with the results 1, 2, ... in it, or one result that
`partgen decompose` has made there, which becomes an object when it is first seen; what becomes of it then lies in a
folder of its own, too.
"""

import asyncio
import json
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.app.database import transaction
from pipeline.app.refusals import Refusal
from pipeline.folders import file_name

RESULT = "result.json"
_ID = re.compile(r"[0-9a-f]{32}")
Row = tuple[int, int | None, str, str]
"""Of the versions: number, parent, folder below that of the results, command."""


@dataclass(frozen=True)
class Version:
    """One result of an object."""

    number: int
    parent: int | None
    folder: Path
    command: str


@dataclass(frozen=True)
class Object:
    """What a user works on."""

    id: str
    folder: str
    """Where new versions go, below the folder of results; empty until there are any."""
    current: int
    redo: tuple[int, ...]
    """What was undone, the next one last."""
    created: float
    versions: dict[int, Version]

    @property
    def version(self) -> Version:
        """The one that is shown."""
        return self.versions[self.current]

    @property
    def chain(self) -> list[Version]:
        """From the first version to the one that is shown, and what was undone after it."""
        found, number = [], self.versions[self.current].parent
        while number is not None and number in self.versions:
            found.append(self.versions[number])
            number = self.versions[number].parent
        undone = [self.versions[one] for one in reversed(self.redo) if one in self.versions]
        return [*reversed(found), self.version, *undone]


class Objects:
    """All objects below a folder of results."""

    def __init__(self, results: Path, database: sqlite3.Connection) -> None:
        self.results, self.database = results, database
        self._locks: dict[str, asyncio.Lock] = {}

    def lock(self, object_id: str) -> asyncio.Lock:
        """Held by whoever changes the object."""
        return self._locks.setdefault(object_id, asyncio.Lock())

    def all(self) -> list[Object]:
        """The newest first, those that have appeared in the folder too, without those whose folders are gone."""
        self._discover()
        rows = self.database.execute("select id from objects order by created desc, rowid desc").fetchall()
        found = []
        for row in rows:
            try:
                found.append(self.get(row["id"]))
            except Refusal:
                continue
        return found

    def get(self, object_id: str) -> Object:
        """Refusal (404) when there is none, or when all its results are gone.

        Where the version that is shown is gone alone, the one that it was made of is shown.
        """
        row = None
        if _ID.fullmatch(object_id):
            row = self.database.execute("select * from objects where id = ?", (object_id,)).fetchone()
        if row is None:
            raise Refusal(404, "There is no such object; it may have been deleted.")
        rows = self.database.execute("select * from versions where object = ? order by number", (object_id,))
        versions = {
            one["number"]: Version(one["number"], one["parent"], self.results / one["folder"], one["command"])
            for one in rows
        }
        there = {number: one for number, one in versions.items() if (one.folder / RESULT).is_file()}
        if not there:
            raise Refusal(404, "The folder of this object is no longer there; it was deleted or moved away.")
        current: int | None = row["current"]
        while current is not None and current not in there:
            current = versions[current].parent if current in versions else None
        shown = current if current is not None else max(there)
        redo = tuple(json.loads(row["redo"])) if shown == row["current"] else ()
        return Object(row["id"], row["folder"], shown, redo, row["created"], there)

    def new_folder(self, name: str) -> str:
        """A new, empty folder for an object of that name; it goes when it is not used (`release`)."""
        base, number = file_name(name), 1
        while True:
            found = base if number == 1 else f"{base}-{number}"
            try:
                (self.results / found).mkdir()
                return found
            except FileExistsError:
                number += 1

    def release(self, folder: str) -> None:
        """Remove the folder of an object that was not made."""
        if folder:
            try:
                (self.results / folder).rmdir()
            except OSError:
                return

    def create(self, folder: str, command: str) -> Object:
        """An object whose first result is FOLDER/1."""
        object_id = secrets.token_hex(16)
        with transaction(self.database):
            self._insert(object_id, folder, [(1, None, f"{folder}/1", command)])
        return self.get(object_id)

    def next_folder(self, found: Object) -> tuple[Object, int, Path]:
        """The number and the folder of a new version."""
        if not found.folder:
            folder = self.new_folder(f"{found.version.folder.name}-edits")
            self.database.execute("update objects set folder = ? where id = ?", (folder, found.id))
            found = self.get(found.id)
        (self.results / found.folder).mkdir(exist_ok=True)  # an adopted object's may have been removed while empty
        top = self.database.execute("select max(number) from versions where object = ?", (found.id,)).fetchone()[0]
        number = int(top) + 1
        while (self.results / found.folder / str(number)).exists():
            number += 1
        return found, number, self.results / found.folder / str(number)

    def add(self, found: Object, number: int, command: str, parent: int) -> Object:
        """The object with a new version, which is shown; what was undone is no longer to be had."""
        with transaction(self.database):
            self.database.execute(
                "insert into versions values(?, ?, ?, ?, ?)",
                (found.id, number, parent, f"{found.folder}/{number}", command),
            )
            self.database.execute("update objects set current = ?, redo = '[]' where id = ?", (number, found.id))
        return self.get(found.id)

    def undo(self, found: Object) -> Object:
        """The version that this one was made of; Refusal when it is the first."""
        parent = found.version.parent
        if parent is None or parent not in found.versions:
            raise Refusal(400, "There is nothing to undo.")
        return self._move(found, parent, (*found.redo, found.current))

    def redo(self, found: Object) -> Object:
        """What was undone last; Refusal when nothing was."""
        if not found.redo or found.redo[-1] not in found.versions:
            raise Refusal(400, "There is nothing to redo.")
        return self._move(found, found.redo[-1], found.redo[:-1])

    def delete(self, found: Object) -> None:
        """All its versions, with their folders."""
        with transaction(self.database):
            self.database.execute("delete from versions where object = ?", (found.id,))
            self.database.execute("delete from objects where id = ?", (found.id,))
        for version in found.versions.values():
            shutil.rmtree(version.folder, ignore_errors=True)
        self.release(found.folder)
        self._locks.pop(found.id, None)

    def _move(self, found: Object, current: int, redo: tuple[int, ...]) -> Object:
        values = (current, json.dumps(redo), found.id)
        self.database.execute("update objects set current = ?, redo = ? where id = ?", values)
        return self.get(found.id)

    def _discover(self) -> None:
        """Results that have appeared become objects."""
        known = {row["folder"] for row in self.database.execute("select folder from versions")}
        own = {row["folder"] for row in self.database.execute("select folder from objects where folder != ''")}
        found: list[tuple[str, list[Row], Path]] = []
        for name, path in self._folders(self.results):
            if (path / RESULT).is_file():
                if name not in known:
                    found.append(("", [(1, None, name, "decompose")], path))
            elif name not in own:
                numbers = sorted(int(one) for one, inner in self._folders(path) if _is_version(one, inner))
                rows: list[Row] = [
                    (number, before, f"{name}/{number}", "decompose")
                    for before, number in zip([None, *numbers], numbers, strict=False)
                    if f"{name}/{number}" not in known
                ]
                if rows and len(rows) == len(numbers):
                    found.append((name, rows, path))
        with transaction(self.database):
            for folder, rows, path in found:
                self._insert(secrets.token_hex(16), folder, rows, path.stat().st_mtime)

    def _insert(
        self,
        object_id: str,
        folder: str,
        rows: list[Row],
        created: float | None = None,
    ) -> None:
        values = (object_id, folder, rows[-1][0], "[]", time.time() if created is None else created)
        self.database.execute("insert into objects values(?, ?, ?, ?, ?)", values)
        self.database.executemany("insert into versions values(?, ?, ?, ?, ?)", [(object_id, *row) for row in rows])

    @staticmethod
    def _folders(folder: Path) -> Iterator[tuple[str, Path]]:
        for path in sorted(folder.iterdir()):
            if not path.name.startswith(".") and path.is_dir() and not path.is_symlink():
                yield path.name, path


def _is_version(name: str, path: Path) -> bool:
    return name.isascii() and name.isdecimal() and str(int(name)) == name and (path / RESULT).is_file()
