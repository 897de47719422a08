"""How an AttackHandler goes through a defence: by which surrogate, and from which images."""

from __future__ import annotations

import pytest
import torch
from engines import evaluator, items, network
from ignite.engine import Events
from monai.inferers import SimpleInferer

import monai_advdef.handlers.attack as module
from monai_advdef import Victim, run
from monai_advdef.defenses import JPEG, DefendedInferer, FrequencyRefinement
from monai_advdef.handlers import AttackHandler, RecordHandler
from monai_advdef.handlers.cell import case_seeds
from monai_advdef.records import read_records
from monai_advdef.training import TRADES

PGD = {"attack": "PGD", "eps": 8.0, "steps": 4}


def evaluated(net, defense=None, folder=None, **options):
    """The adversarial images of an evaluation, its handler, and its records where there is a folder for them."""
    handler, seen = AttackHandler(**{**PGD, **options}), []
    record = [] if folder is None else [RecordHandler(folder, ["lesion"], attack=handler, gallery=False, card=False)]
    inferer = SimpleInferer() if defense is None else DefendedInferer(SimpleInferer(), defense)
    engine = evaluator(net, [handler, *record], inferer=inferer)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append(images(e.state.batch)))
    engine.run()
    rows = None if folder is None else read_records(record[0].records / f"{record[0].fingerprint}.parquet")
    return torch.cat(seen), handler, rows


def images(batch):
    """The images of a batch, (B, C, H, W)."""
    return torch.cat([item["image"].as_tensor().reshape(-1, 3, 48, 48) for item in batch])


@pytest.fixture(scope="module")
def net(trained):
    return network(trained)


def test_begin_oblivious_begins_at_the_images_of_the_undefended_attack(net, tmp_path):
    defense = FrequencyRefinement()
    bare, _, _ = evaluated(net)
    begun, handler, rows = evaluated(net, defense, tmp_path / "a", begin="oblivious", smoothness=0.7)
    own, _, _ = evaluated(net, defense, smoothness=0.7)
    assert not torch.equal(begun, own)
    image, label = (torch.stack([torch.as_tensor(i[k]) for i in items()]) for k in ("image", "label"))
    seeds = case_seeds(0, [f"case_{i}" for i in range(6)])
    outcome = run(handler.attack, Victim(net, defense=defense, smoothness=0.7), handler.threat, image, label, seed=seeds, start=bare)
    torch.testing.assert_close(begun, outcome.adversarial)
    assert set(rows["attack"]) == {"PGD dice through smooth 0.7 from the oblivious images"} and rows["adaptive"].all()
    assert (rows["backwards"] > 4).all(), "the passes of the first attack are counted"


def test_the_oblivious_evaluation_and_the_start_share_the_cache(net, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    evaluated(net, FrequencyRefinement(), cache_dir=cache, adaptive=False)
    files = {p.name for p in cache.iterdir()}

    def forbidden(*args, **kwargs):
        raise AssertionError("crafted twice")

    monkeypatch.setattr(module, "run_sweep", forbidden)
    first, _, _ = evaluated(net, FrequencyRefinement(), cache_dir=cache, begin="oblivious")
    assert files < {p.name for p in cache.iterdir()}
    monkeypatch.setattr(module, "run", forbidden)
    again, _, _ = evaluated(net, FrequencyRefinement(), cache_dir=cache, begin="oblivious")
    oblivious, _, _ = evaluated(net, JPEG(), cache_dir=cache, adaptive=False, begin="oblivious", surrogate="identity")
    undefended, _, _ = evaluated(net, None, cache_dir=cache, begin="oblivious", smoothness=0.5)
    assert torch.equal(first, again) and torch.equal(oblivious, undefended)


def test_ways_through_a_defence_are_told_apart_and_without_one_they_are_not(net, tmp_path):
    ways = [{}, {"smoothness": 0.5}, {"surrogate": "identity"}, {"surrogate": "straight_through"}, {"begin": "oblivious"}]
    behind = [evaluated(net, FrequencyRefinement(), tmp_path / "a", **way)[2] for way in ways]
    bare = [evaluated(net, None, tmp_path / "b", **way)[2] for way in ways]
    assert len({rows["fingerprint"].iloc[0] for rows in behind}) == len({rows["attack"].iloc[0] for rows in behind}) == len(ways)
    assert {rows["attack"].iloc[0] for rows in bare} == {"PGD dice"}
    assert len({rows["value"].round(6).sum() for rows in bare}) == 1


def test_every_budget_of_a_sweep_begins_at_its_own_images(net, tmp_path):
    cache = tmp_path / "cache"
    evaluated(net, FrequencyRefinement(), cache_dir=cache, begin="oblivious", sweep=[4.0])
    count = len(list(cache.iterdir()))
    alone, _, _ = evaluated(net, FrequencyRefinement(), cache_dir=tmp_path / "other", begin="oblivious", eps=4.0)
    swept, _, _ = evaluated(net, FrequencyRefinement(), cache_dir=cache, begin="oblivious", eps=4.0)
    assert torch.equal(alone, swept) and len(list(cache.iterdir())) == count == 6 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"begin": "anywhere"}, "begin must be one of own, oblivious, got 'anywhere'"),
        ({"surrogate": "soft"}, "surrogate must be .*'smooth'.* got 'soft'"),
        ({"smoothness": -1}, r"smoothness must lie in \[0, 1\], got -1"),
        ({"smoothness": 0.5, "surrogate": "identity"}, "smoothness 0.5 is of surrogate 'smooth', got 'identity'"),
    ],
)
def test_bad_words(options, message):
    with pytest.raises(ValueError, match=message):
        AttackHandler(**PGD, **options)


def test_an_attack_that_needs_the_defence_cannot_begin_without_it(net):
    with pytest.raises(Exception, match="Lattice needs a defence"):
        evaluated(net, FrequencyRefinement(), attack="Lattice", begin="oblivious")


def test_trades_begins_near_the_clean_image():
    with pytest.raises(ValueError, match="begin must be 'own'"):
        TRADES(begin="oblivious")
