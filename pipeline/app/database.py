"""The server's memory: jobs, objects and their versions, in one file of SQLite.

Results themselves are folders; what is lost with this file is which one is shown, and jobs.
"""

import contextlib
import sqlite3
from pathlib import Path

_SCHEMA = """
create table if not exists objects(
    id text primary key, folder text not null, current int not null, redo text not null, created real not null
);
create table if not exists versions(
    object text not null, number int not null, parent int, folder text not null unique, command text not null,
    primary key(object, number)
);
create table if not exists jobs(
    id text primary key, key text unique, request text not null, title text not null, state text not null,
    created real not null, started real, ended real, steps text not null, error text, object text, version int
);
"""


def open_database(path: Path) -> sqlite3.Connection:
    """The database in a file, which is made; one that is damaged is moved aside."""
    try:
        return _open(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        path.replace(path.with_suffix(".damaged"))
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).unlink()
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=normal")
    connection.executescript(_SCHEMA)
    connection.execute("select count(*) from jobs").fetchone()
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection):  # type: ignore[no-untyped-def]
    """All changes within, or none."""
    connection.execute("begin immediate")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")
