"""The MLflow store or server of a run: found within seconds, used by one process at a time, and its loss told once, not raised."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import mlflow
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from monai_advdef.errors import nearest
from monai_advdef.neighbours import alone, clear_leftovers, whole

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

T = TypeVar("T")
FOUND_WITHIN, LOCKED_WITHIN = 15.0, 120.0  # seconds for a server to answer, and for other processes to leave a local store
BRIEF = {"TIMEOUT": 5, "MAX_RETRIES": 1, "BACKOFF_FACTOR": 1}  # MLFLOW_HTTP_REQUEST_..., unless the user has set them
USUAL = {"TIMEOUT": 10, "MAX_RETRIES": 2, "BACKOFF_FACTOR": 1}  # MLflow's own add up to minutes of silence
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc")


def database_uri(path: Path) -> str:
    """Tracking URI of an SQLite file, also where its path holds what means something in a URI (``?``, ``%``)."""
    plain = f"sqlite:///{path}"
    if make_url(plain).database == str(path):
        return plain
    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string()  # MLflow makes no folder of the quoted path then


def database_file(uri: str) -> Path | None:
    """The file of an SQLite URI; ``None`` for a server, or a store in memory."""
    if not uri.startswith("sqlite"):
        return None
    name = make_url(uri).database
    return Path(name) if name and name != ":memory:" else None


class TrackingStore:
    """Where runs are tracked: the server or store of ``uri``.

    Args:
        uri: of MLflow.
        kept: what stays when nothing is tracked, and how to track it later, in words.

    Raises:
        ValueError: a folder, or a scheme that MLflow does not know; each with the remedy.
    """

    def __init__(self, uri: str, kept: str) -> None:
        self.uri, self.kept, self.lost = uri, kept, False
        self.shown = _masked(uri)
        self._told: set[str] = set()
        self._check()
        self.file = self._file()

    def _check(self) -> None:
        scheme = self.uri.partition(":")[0].partition("+")[0].lower()
        own = [entry.name for entry in importlib.metadata.entry_points(group="mlflow.tracking_store")]
        if scheme == "file" or (":" not in self.uri and scheme not in SCHEMES) or re.match(r"[A-Za-z]:[\\/]", self.uri):
            raise ValueError(
                f"MLflow no longer keeps runs in plain folders, got {self.uri!r} as tracking URI; give sqlite:///<folder>/mlruns.db "
                "or a server, or unset MLFLOW_TRACKING_URI: then the store lies in output_dir"
            )
        if scheme not in (*SCHEMES, *own):
            server = re.match(r"[\w.-]+:\d+(/|$)", self.uri)
            hint = f"for a server write http://{self.uri}" if server else nearest(scheme, (*SCHEMES, *own))
            raise ValueError(f"{self.shown!r} is no tracking URI that MLflow knows; {hint}")

    def _file(self) -> Path | None:
        try:
            file = database_file(self.uri)
        except ArgumentError as error:
            raise ValueError(f"{self.shown!r} is no tracking URI: {error}; give sqlite:///<folder>/mlruns.db or a server") from error
        if file is not None and file.parts[:1] == ("~",):  # the home folder, not one of that name
            file = file.expanduser()
            self.uri = database_uri(file)
        return file

    @property
    def artifacts(self) -> str | None:
        """Where an SQLite store keeps its files: ``mlruns`` beside it; for others it is theirs to say."""
        return None if self.file is None else (self.file.resolve().parent / "mlruns").as_uri()

    def connect(self) -> mlflow.MlflowClient | None:
        """A client of a store that answers; ``None``, after a warning, where none does."""
        self.lost, self._told = False, set()
        found = self.attempt("this run", self._open, BRIEF)
        self.lost = found is None
        return found

    def attempt(self, what: str, act: Callable[[], T], patience: dict[str, int] = USUAL) -> T | None:
        """What ``act`` returns; ``None`` where it failed, of which a warning tells, or where the store was lost before."""
        if self.lost:
            return None
        try:
            with self._alone(), _environment(patience):
                return act()
        except Exception as error:  # whatever a server, a driver or a plugin raises: no evaluation ends for it
            self.lost = not _refused(error)
            if what not in self._told:
                self._told.add(what)
                self._tell(what, error)
            return None

    def last(self, act: Callable[[], Any]) -> None:
        """Do what closes a run, even after the store was lost, for it may be back; then without a word."""
        if not self.lost:
            self.attempt("the end of this run", act, BRIEF)
            return
        try:
            with self._alone(5.0), _environment({**BRIEF, "MAX_RETRIES": 0}):
                act()
        except Exception:  # told before
            return

    def _alone(self, timeout: float = LOCKED_WITHIN) -> Any:
        if self.file is None:
            return nullcontext()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        return alone(f"{self.file}.lock", timeout=timeout)

    def _open(self) -> mlflow.MlflowClient:
        if self.file is not None:
            _prepare(self.file)
            return mlflow.MlflowClient(self.uri)
        return _within(FOUND_WITHIN, self._ask)

    def _ask(self) -> mlflow.MlflowClient:
        client = mlflow.MlflowClient(self.uri)
        client.search_experiments(max_results=1)
        return client

    def _tell(self, what: str, error: Exception) -> None:
        reason = _reason(error)
        warnings.warn(
            f"MLflow at {self.shown} did not take {what} ({reason}), so that is not tracked; {self.kept}. Is the server up, and "
            "MLFLOW_TRACKING_URI right? Without that variable the store lies in output_dir"
            if self.file is None
            else f"MLflow's store {self.file} did not take {what} ({reason}), so that is not tracked; {self.kept}. Free or repair "
            "that file, or move it away: a new one is made",
            stacklevel=1,
        )


def _prepare(file: Path) -> None:
    """Make the store, all or nothing, where it is not there; MLflow takes minutes to tell of one that it cannot write.

    Raises:
        OSError, sqlite3.Error: it cannot be written.
    """
    if not file.exists() or not file.stat().st_size:
        clear_leftovers(file.parent)
        with whole(file) as new:
            with closing(sqlite3.connect(new)):
                pass
            client = mlflow.MlflowClient(database_uri(new.resolve()))
            dispose(client)
    with closing(sqlite3.connect(file, timeout=5.0)) as store:
        store.execute("BEGIN IMMEDIATE")
        store.rollback()


def dispose(client: mlflow.MlflowClient) -> None:
    """Close the connections of a client of a database, which MLflow keeps for good."""
    store = client._tracking_client.store
    for engine in (getattr(store, "engine", None), getattr(store, "read_engine", None)):
        if engine is not None:
            engine.dispose()


def _within(seconds: float, act: Callable[[], T]) -> T:
    """What ``act`` returns or raises.

    Raises:
        TimeoutError: it did not come to an end; it goes on in a thread that ends with the process.
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend((act(), None))
        except Exception as error:
            outcome.extend((None, error))

    thread = threading.Thread(target=run, daemon=True, name="MLflow")
    thread.start()
    thread.join(seconds)
    if len(outcome) < 2:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


@contextmanager
def _environment(patience: dict[str, int]) -> Iterator[None]:
    """MLflow's settings for requests within the block, where the user has made none."""
    made = {f"MLFLOW_HTTP_REQUEST_{name}": str(value) for name, value in patience.items()}
    made = {name: value for name, value in made.items() if name not in os.environ}
    os.environ.update(made)
    try:
        yield
    finally:
        for name in made:
            os.environ.pop(name, None)


@contextmanager
def no_uri() -> Iterator[None]:
    """``MLFLOW_TRACKING_URI`` is not there within the block."""
    uri = os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        yield
    finally:
        if uri is not None:
            os.environ["MLFLOW_TRACKING_URI"] = uri


def _reason(error: BaseException) -> str:
    """Why, in short: what the system said (``Connection refused``), where requests and retries are wrapped around it."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    said = [e for e in chain if isinstance(e, OSError) and (e.strerror or isinstance(e, TimeoutError))]
    text = str(said[-1] if said else getattr(error, "message", None) or error)
    return _masked(" ".join(text.split()))[:300] or type(error).__name__


def _masked(text: str) -> str:
    """The text without the passwords in its URIs."""
    return re.sub(r"(://[^:/@\s]*:)[^@/\s]*@", r"\1***@", text)


def _refused(error: Exception) -> bool:
    """Whether only what was sent is at fault, so that the store may take the next piece."""
    if isinstance(error, MlflowException):
        return error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS")
    return isinstance(error, (ImportError, TypeError, ValueError, KeyError)) and not isinstance(error, OSError)
