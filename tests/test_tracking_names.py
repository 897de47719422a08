"""Classes, options and folders may be called anything, and MLflow takes them."""

from __future__ import annotations

import os
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.utils.validation import _validate_metric_name
from tracked import cell, found

from monai_advdef.handlers import EvaluationTracker, RecordHandler, TrainingTracker
from monai_advdef.handlers.mlflow_names import LONGEST_NAME, experiment_name, numbers, texts, valid_names
from monai_advdef.handlers.mlflow_store import TrackingStore, database_file, database_uri
from monai_advdef.handlers.tracking import store

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(autouse=True)
def default_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


NAMES = ["lesion (malignant)", "GTV+CTV", "<5 mm", ">5 mm", "Läsion", "a/b", "a//b", "/a", "..", "../x", "./a", "%", "", " ", "日本"]
NAMES += ["a+b", "a*b", "a_b", "a\nb", "\ud800", "x" * 300 + "_mean", "x" * 300 + "y_mean", "La\u0308sion"]


def test_names_become_such_as_mlflow_takes_and_stay_apart():
    new = valid_names(NAMES)
    for name in new.values():
        _validate_metric_name(name)
    assert len(set(new.values())) == len(NAMES) and max(map(len, new.values())) == LONGEST_NAME
    assert new["Läsion"] == "Läsion" and new["a/b"] == "a/b" and new["a_b"] == "a_b" and new["GTV+CTV"] == "GTV_CTV"
    assert (new["<5 mm"], new[">5 mm"]) == ("lt 5 mm", "gt 5 mm") and new["x" * 300 + "_mean"].endswith("x_mean")
    assert valid_names(reversed(NAMES)) == new and valid_names(["a+b"]) == {"a+b": "a_b"}


def test_metrics_of_any_kind_become_numbers_and_parameters_texts():
    told = numbers(
        {"a+b": torch.tensor(0.5), "v": np.array([1.0, 2.0]), "n": {"x": float("nan")}, "t": "text", "none": None, "i": 3}
    )
    assert np.isnan(told.pop("x")) and told == {"a_b": 0.5, "v_0": 1.0, "v_1": 2.0, "i": 3.0}
    cut = texts({"k": "x" * 7000, "%": 1})
    assert len(cut["k"]) == 6000 and cut["k"].endswith("x ... (7000 characters)") and cut["_"] == "1"


def test_experiments_may_be_called_anything(trained, tmp_path, made_store):
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    names = ["", " skin ", 2018, "x" * 600, "a/b", "Läsion"]
    assert [experiment_name(n) for n in names if len(str(n)) < 600] == ["Default", "skin", "2018", "a/b", "Läsion"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for name in names[2:4]:
            cell(trained, tmp_path, experiment_name=name)
    assert found(tmp_path)[0] == ["FINISHED"] * 2


def test_numbers_in_the_place_of_names_are_recorded_as_text(trained, tmp_path):
    records = RecordHandler(tmp_path, [1], task=2018, model=50)
    assert (records.classes, records.of) == (["1"], {"task": "2018", "model": "50", "suite": ""})


def test_an_experiment_that_was_deleted_is_restored_for_the_run(trained, tmp_path, made_store, caplog):
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    client = mlflow.MlflowClient(store(tmp_path))
    client.delete_experiment(client.create_experiment("blobs"))
    cell(trained, tmp_path)
    assert found(tmp_path)[0] == ["FINISHED"] and client.get_experiment_by_name("blobs").lifecycle_stage == "active"
    assert "'blobs' was deleted and is restored" in caplog.text


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("localhost:5000", "for a server write http://localhost:5000"),
        ("10.0.0.1:5000/x", "for a server write http://10.0.0.1:5000/x"),
        ("htp://host", "did you mean 'http'"),
    ],
)
def test_a_server_without_its_scheme_gets_the_right_remedy(tmp_path, uri, hint):
    with pytest.raises(ValueError, match=f"is no tracking URI that MLflow knows; {hint}"):
        TrackingStore(uri, "")


def test_uris_as_people_set_them(tmp_path, monkeypatch):
    """Quotes of a container's list of variables, blanks, capitals, the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for told, meant in {
        "  ": store(tmp_path),
        "'http://host:5000' ": "http://host:5000",
        '"sqlite:///~/my runs.db"': f"sqlite:///{tmp_path}/me/my runs.db",
        "HTTP://host": "HTTP://host",
    }.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", told)
        assert TrainingTracker(tmp_path).store.uri == meant


def test_every_class_has_its_metrics_whatever_it_is_called(trained, tmp_path, monkeypatch, made_store):
    """All in one run."""
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    classes = [name for name in NAMES if name != "\ud800"]
    values = {(c, "dice"): i / 100 for i, c in enumerate(classes)} | {("a_b", "hd95_mm"): float("inf"), ("..", "iou"): float("nan")}
    monkeypatch.setattr(RecordHandler, "_values", lambda self, *_: values)
    monkeypatch.setattr("monai_advdef.handlers.record.check_classes", lambda *_: None)  # the network has one class
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        cell(trained, tmp_path, classes=classes)
    statuses, metrics = found(tmp_path)
    called = valid_names(sorted(classes))
    assert statuses == ["FINISHED"] and all(metrics[f"{called[c]}_dice_mean"[-250:]] is not None for c in classes if len(c) < 200)
    assert metrics["lesion _malignant__dice_mean"] == 0.0 and metrics["GTV_CTV_dice_mean"] == pytest.approx(0.01)
    assert sum(name.startswith("x" * 100) for name in metrics) == 2 * 3


def test_a_parameter_that_is_too_long_is_cut(trained, tmp_path, made_store):
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    cell(trained, tmp_path, experiment_param={"cases (all)": "c" * 9000, **{f"p{i}": i for i in range(120)}})
    assert found(tmp_path)[0] == ["FINISHED"]
    with closing(sqlite3.connect(tmp_path / "mlruns.db")) as store:
        parameters = dict(store.execute("select key, value from params").fetchall())
    assert len(parameters["cases _all_"]) == 6000 and parameters["cases _all_"].endswith("(9000 characters)")
    assert {f"p{i}" for i in range(120)} < parameters.keys()


# -- where the store lies


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b", "ä ö", "100% & more; x=1", "n" * 200])
def test_folders_of_any_name_hold_the_store_and_its_files(trained, tmp_path, monkeypatch, made_store, name):
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "mlruns.db").write_bytes(made_store.read_bytes())
    cell(trained, folder)
    assert found(folder)[0] == ["FINISHED"]
    assert len(list(folder.glob("mlruns/**/records/*.parquet"))) == 1 and [p.name for p in tmp_path.iterdir()] == [name]
    assert {p.name for p in folder.iterdir()} == {"records", "mlruns", "mlruns.db"}


def test_uris_of_databases():
    assert database_uri(Path("/a b/ä#/m.db")) == "sqlite:////a b/ä#/m.db"
    for path in ("/a?b/m.db", "/a%20b/m.db", "/a b/m.db", "/100%/m.db"):
        assert database_file(database_uri(Path(path))) == Path(path)
    assert database_file("sqlite://") is None and database_file("http://x") is None


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("/tmp/somewhere", "no longer keeps runs in plain folders, got '/tmp/somewhere'.*sqlite:///.*unset MLFLOW_TRACKING_URI"),
        ("file:///tmp/somewhere", "no longer keeps runs in plain folders"),
        ("mlruns", "no longer keeps runs in plain folders"),
        ("C:\\runs", "no longer keeps runs in plain folders"),
        ("htp://localhost:5000", "'htp://localhost:5000' is no tracking URI that MLflow knows; did you mean 'http'"),
    ],
)
def test_a_uri_that_can_never_work_is_refused_at_once(tmp_path, monkeypatch, uri, told):
    with pytest.raises(ValueError, match=told):
        TrainingTracker(tmp_path, tracking_uri=uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ValueError, match=told):
        EvaluationTracker(RecordHandler(tmp_path, ["lesion"]))
