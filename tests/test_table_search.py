"""The search for Frequency Refinement's step sizes: the same numbers as the defence itself, at the stated cost, resumable."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import blobs
from engines import items, loader, network
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from PIL import Image

from monai_advdef.data import DataError
from monai_advdef.defenses import JPEG, FrequencyRefinement, fit_band_statistics, frequency_table, save_band_statistics
from monai_advdef.handlers import AdversarialCache, AttackHandler, AttackNotApplied
from monai_advdef.papers.frequency_refinement.band_statistics import (
    band_group,
    band_ranks,
    fitted_band_statistics,
    read_band_std,
    top_bands,
)
from monai_advdef.papers.frequency_refinement.search import TableSearch, read_progress, refined, triples
from monai_advdef.papers.frequency_refinement.search_result import choose

NAMED = [(20, 10, 60), (30, 5, 80)]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_refining_for_many_tables_is_the_defence_itself_bit_for_bit(height, width, seed):
    grey = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 300 - 20
    std = torch.rand(8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    steps = [(20, 10, 60), (30, 5, 80), (80, 40, 255)]
    found = list(refined(grey, [frequency_table(s, std) for s in steps]))
    for s, image in zip(steps, found):
        assert torch.equal(image, FrequencyRefinement(steps=s, band_std=std)(grey))


def test_the_grids_are_the_papers_and_one_that_goes_on_past_its_edge():
    paper, extended = triples("paper"), triples("extended")
    assert sorted(paper) == sorted(itertools.product((20, 30, 40, 50), (5, 10, 15, 20), (50, 60, 80, 100)))
    assert set(paper) < set(extended) and len(extended) == len(set(extended)) < 200
    assert [max(t[i] for t in extended) for i in range(3)] == [80, 40, 255]
    assert all(a >= b <= c for a, b, c in extended) and set(NAMED) <= set(paper)
    with pytest.raises(ValueError, match=r"unknown grid 'papr'; did you mean 'paper'"):
        triples("papr")


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12), st.integers(-1, 5))
def test_the_choice_is_the_best_under_attack_among_those_allowed(pairs, limit):
    rows = pd.DataFrame(pairs, columns=["benign_loss", "adversarial_mean"])
    allowed = [(-a, loss, i) for i, (loss, a) in enumerate(pairs) if loss <= limit]
    assert choose(rows, limit) == (min(allowed)[2] if allowed else None)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.5, 7.0, 30.0]), min_size=64, max_size=64))
@settings(max_examples=20, deadline=None)
def test_ranks_put_every_band_where_the_defence_puts_it(values):
    std = np.array(values).reshape(8, 8)
    ranks = band_ranks(std)
    assert sorted(ranks.ravel()) == list(range(1, 65))
    assert np.array_equal(np.array([30, 5, 80])[band_group(ranks)], frequency_table((30, 5, 80), std).numpy())


def test_bands_are_named_as_they_run_across_the_picture(tmp_path):
    wave = torch.cos((2 * torch.arange(64) + 1) * np.pi / 16)
    across = 30 * wave[:, None].expand(64, 64)  # MONAI's first axis runs across
    image = 100 + across + 90 * (torch.arange(64)[None] // 8 % 2)  # the second term changes from block to block only
    path = fitted_band_statistics(tmp_path / "models" / "band_std.json", [image[None]])
    assert top_bands(read_band_std(path), 2) == ["DC", "(1,0), 1 half wave across"]
    assert fitted_band_statistics(path, []) == path  # there already: no image is read


class Meter:
    """Images that passed while ``counted`` is set; its text never changes, as an inferer's settings do not."""

    def __init__(self, limit):
        self.images, self.counted, self.limit = 0, False, limit

    def __repr__(self):
        return "meter"


class Counting(SimpleInferer):
    """Counts the images that pass; stops the run at the limit."""

    def __init__(self, limit=None):
        super().__init__()
        self.meter = Meter(limit)

    def __call__(self, inputs, network, *args, **kwargs):
        self.meter.images += len(inputs) * self.meter.counted
        if self.meter.limit is not None and self.meter.images > self.meter.limit:
            raise KeyboardInterrupt
        return super().__call__(inputs, network, *args, **kwargs)


@pytest.fixture
def band_std(tmp_path):
    path = tmp_path / "band_std.json"
    save_band_statistics(fit_band_statistics(blobs(8, seed=1)[0]), path)
    return path


def search(trained, folder, band_std, limit=None, cases=4, attached=True, **options):
    """The meter of a search over ``blobs``, and the search to be run."""
    attack = AttackHandler("PGD", eps=6.0, steps=3, adaptive=False, cache_dir=folder / "adversarial")
    found, inferer = TableSearch(attack=attack, output_dir=folder, band_std=band_std, **options), Counting(limit)

    def update(engine, batch):
        inferer.meter.counted = True
        try:
            return found(engine, batch)
        finally:
            inferer.meter.counted = False

    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader(items(cases or 1)[:cases], 2),
        network=network(trained),
        inferer=inferer,
        iteration_update=update,
        val_handlers=[attack] if attached else [],
    )
    return inferer.meter, lambda: found.run(engine)


def expected(trained, folder, images, defense):
    """Mean and standard deviation of the IoU in per cent, without the house's metrics."""
    net, label = network(trained).eval(), blobs(4, seed=2)[1].bool()
    with torch.no_grad():
        prediction = net(defense(images)).argmax(1, keepdim=True).bool()
    values = [100 * float((p & t).sum() / (p | t).sum()) for p, t in zip(prediction, label)]
    return np.mean(values), np.std(values)


def test_rows_are_what_the_defences_give_at_130_passes_an_image(trained, tmp_path, band_std, monkeypatch):
    kept, store = [], AdversarialCache.store

    def watched(cache, key, clean=None, **arrays):
        kept.append((clean, torch.as_tensor(arrays["adversarial"])))
        store(cache, key, clean, **arrays)

    monkeypatch.setattr(AdversarialCache, "store", watched)
    inferer, run = search(trained, tmp_path, band_std, data="blobs")
    result = run()
    assert inferer.images == 4 * 130 and result.passes == 130 and len(result.rows) == 64
    clean = blobs(4, seed=2)[0]
    attacked = torch.stack([next(a for base, a in kept if np.array_equal(base, c.numpy())) for c in clean])
    for steps in NAMED:
        row = result.rows[(result.rows[["qs1", "qs2", "qs3"]] == steps).all(axis=1)].iloc[0]
        defense = FrequencyRefinement(steps=steps, band_std=str(band_std))
        assert (row["benign_mean"], row["benign_std"]) == pytest.approx(expected(trained, tmp_path, clean, defense), abs=1e-4)
        assert (row["adversarial_mean"], row["adversarial_std"]) == pytest.approx(
            expected(trained, tmp_path, attacked, defense), abs=1e-4
        )
        assert row["note"].endswith("the paper's") or "the paper's, loses" in row["note"]
    none, jpeg = (expected(trained, tmp_path, clean, d)[0] for d in (lambda x: x, JPEG(quality=85)))
    assert result.limit == pytest.approx(none - jpeg + 0.5, abs=1e-4)
    best = result.rows[result.rows["best"]].iloc[0]
    assert best["benign_loss"] <= result.limit
    assert best["adversarial_mean"] == result.rows[result.rows["admissible"]]["adversarial_mean"].max()


def test_the_files_tell_it_all_and_the_table_reads_back(trained, tmp_path, band_std):
    result = search(trained, tmp_path, band_std, data="blobs", max_benign_loss=100)[1]()
    folder = tmp_path / "frequency_refinement_search"
    table = json.loads((folder / "table.json").read_text())
    assert (
        tuple(table["steps"]) == result.best and table["n"] == 4 and table["data"] == "blobs" and len(table["band_std_digest"]) == 16
    )
    assert table["section"] == "validation" and table["forward_passes_per_image"] == 130
    image = blobs(1, seed=7)[0]
    twin = FrequencyRefinement(steps=result.best, band_std=str(band_std))
    assert torch.equal(FrequencyRefinement(table=str(folder / "table.json"))(image), twin(image))
    assert len(pd.read_csv(folder / "search.csv")) == 64
    text = (folder / "search.md").read_text()
    name = "FR({},{},{})".format(*result.best)
    assert f"**Chosen: {name}.**" in text and "at most 100.00 points (as given)" in text and "three top bands (PD): DC" in text
    assert ("lies on the edge" in text) == bool(result.edges)
    for picture in ("heat_map.png", "bands.png"):
        with Image.open(folder / picture) as shown:
            assert min(shown.size) > 400


@pytest.mark.slow
def test_a_search_that_was_stopped_goes_on_and_the_other_grid_reuses_it(trained, tmp_path, band_std):
    whole = search(trained, tmp_path / "whole", band_std)[1]()
    first, run = search(trained, tmp_path / "parts", band_std, limit=300)
    with pytest.raises(KeyboardInterrupt):
        run()
    progress = tmp_path / "parts" / "frequency_refinement_search" / "search_progress.jsonl"
    done = sum(f.passes for found in read_progress(progress).values() for f in found.values())
    assert 0 < done <= 300
    progress.write_text(progress.read_text() + '{"case": "cut sh')
    second, run = search(trained, tmp_path / "parts", band_std)
    again = run()
    assert second.images == 4 * 130 - done and again.passes == 130
    pd.testing.assert_frame_equal(again.rows, whole.rows)
    third, run = search(trained, tmp_path / "parts", band_std, grid="extended")
    assert third.images == 0 and len(run().rows) == len(triples("extended"))
    assert third.images <= 4 * 2 * (len(triples("extended")) - 64) + 4  # the line cut short swallowed one setting of two cases


def test_what_cannot_be_searched_says_why(trained, tmp_path, band_std):
    with pytest.raises(ValueError, match=r"no table loses at most -90\.00 IoU points .*loses least.*Set max_benign_loss"):
        search(trained, tmp_path, band_std, max_benign_loss=-90)[1]()
    folder = tmp_path / "frequency_refinement_search"
    assert (folder / "search.csv").exists() and not (folder / "table.json").exists()
    assert "No table meets the constraint" in (folder / "search.md").read_text()
    with pytest.raises(AttackNotApplied, match="did not touch batch 1"):
        search(trained, tmp_path, band_std, attached=False)[1]()
    with pytest.raises(DataError, match="there is no validation case"):
        search(trained, tmp_path, band_std, cases=0)[1]()
    with pytest.raises(ValueError, match="max_benign_loss must be a number"):
        search(trained, tmp_path, band_std, max_benign_loss=float("nan"))
