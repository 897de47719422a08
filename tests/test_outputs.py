"""What a network does to its input and gives back, and what becomes of it behind the network: the right score, or words."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from engines import items, network
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import CheckpointLoader
from monai.transforms import Lambdad
from test_batches import ARGMAX, evaluation, without
from torch import nn

from monai_advdef.handlers import AttackHandler, RecordHandler, evaluate
from monai_advdef.records import read_records


class Wrapped(nn.Module):
    """A network behind something that is done to its input or with its output."""

    def __init__(self, inner, before=lambda x: x, after=lambda y: y):
        super().__init__()
        self.inner, self.before, self.after = inner, before, after

    def forward(self, x):
        return self.after(self.inner(self.before(x)))


def _blank(x):
    x[:, :, :4] = 0
    return x


IN_PLACE = {
    "scaled": (lambda x: x.div_(2), lambda x: x / 2),
    "ReLU": (nn.ReLU(inplace=True), nn.ReLU()),
    "blanked": (_blank, lambda x: _blank(x.clone())),
}


@pytest.mark.parametrize("kind", IN_PLACE)
def test_a_network_that_overwrites_its_input_is_attacked_like_its_twin(trained, tmp_path, kind):
    scores = [evaluation(Wrapped(network(trained), f), items(3), tmp_path / str(i)) for i, f in enumerate(IN_PLACE[kind])]
    assert scores[0].tolist() == scores[1].tolist()


def test_a_normaliser_that_overwrites_its_input_too(trained, tmp_path):
    net, pair = network(trained), (lambda x: x.sub_(1), lambda x: x - 1)
    scores = [evaluation(net, items(3), tmp_path / str(i), attack={"normalize": f}) for i, f in enumerate(pair)]
    assert scores[0].tolist() == scores[1].tolist()


@pytest.mark.parametrize("attacked", [True, False], ids=["attacked", "clean"])
@pytest.mark.parametrize(
    ("after", "words"),
    [
        (lambda y: {"out": y}, "a dictionary with out[,;].* wrap it in a network that returns"),
        (lambda y: torch.stack([y, y, y], 1), "several heads in one tensor|the prediction has shape .* the deployed one"),
    ],
    ids=["a dictionary", "heads in one tensor"],
)
def test_what_is_no_logits_is_told_clean_and_attacked(trained, tmp_path, after, words, attacked):
    with pytest.raises(ValueError, match=words):
        evaluation(Wrapped(network(trained), after=after), items(3), tmp_path, attacked=attacked)


@pytest.mark.parametrize("attacked", [True, False], ids=["attacked", "clean"])
def test_several_outputs_need_a_postprocessing_that_takes_one(trained, tmp_path, attacked):
    net = Wrapped(network(trained), after=lambda y: (y, y[:, :, ::2, ::2]))
    with pytest.raises(ValueError, match="Wrapped returns 2 outputs, the postprocessing expects one; wrap it in a network"):
        evaluation(net, items(3), tmp_path / "a", attacked=attacked)
    first = Lambdad("pred", func=lambda y: y[0].argmax(0, keepdim=True))
    taken = evaluation(net, items(3), tmp_path / "b", attacked=attacked, postprocessing=first)
    assert taken.tolist() == evaluation(network(trained), items(3), tmp_path / "c", attacked=attacked).tolist()


def test_argmax_over_the_cases_of_a_batch_is_no_prediction(trained, tmp_path):
    with pytest.raises(ValueError, match="the prediction has 2304 voxels of no class.*decollate true"):
        evaluation(network(trained), items(3), tmp_path / "a", decollate=False, batch_size=1)
    per_batch = Lambdad("pred", func=lambda y: y.argmax(1, keepdim=True))
    scores = evaluation(network(trained), items(3), tmp_path / "b", decollate=False, postprocessing=per_batch)
    assert scores.tolist() == evaluation(network(trained), items(3), tmp_path / "c").tolist()


def test_predictions_and_labels_of_two_grids_are_not_compared(trained, tmp_path):
    coarse = [{**item, "label": item["label"][:, ::2, ::2]} for item in items(3, meta=False)]
    with pytest.raises(ValueError, match=r"prediction has shape \(1, 48, 48\), the label \(1, 24, 24\).* score both on one grid"):
        evaluation(network(trained), coarse, tmp_path, attacked=False)


def test_labels_of_any_whole_type_score_the_same(trained, tmp_path):
    right = evaluation(network(trained), items(3, meta=False), tmp_path / "right").tolist()
    for dtype in (torch.uint16, torch.bool, torch.int8):
        data = [{**item, "label": item["label"].to(dtype)} for item in items(3, meta=False)]
        assert evaluation(network(trained), data, tmp_path / str(dtype)).tolist() == right


@pytest.mark.parametrize("attacked", [True, False], ids=["attacked", "clean"])
def test_keys_that_the_evaluator_does_not_know_need_a_prepare_batch(trained, tmp_path, attacked):
    keys, mine = {"image": "img", "label": "seg"}, {"image_key": "img", "label_key": "seg"}
    data = [{keys.get(k, k): v for k, v in item.items()} for item in without()]
    told = {"records": {"image_key": "img"}, "attacked": attacked, **({"attack": mine} if attacked else {})}
    with pytest.raises(ValueError, match="the evaluator takes 'image' and 'label' from the batch, which has img, seg, case"):
        evaluation(network(trained), data, tmp_path / "a", **told)

    def prepare(batch, device, non_blocking, **_):
        return batch["img"].to(device), batch["seg"].to(device)

    scores = evaluation(network(trained), data, tmp_path / "b", prepare_batch=prepare, **told)
    ordinary = evaluation(network(trained), without(), tmp_path / "c", attacked=attacked)
    assert scores.tolist() == ordinary.tolist()


@pytest.mark.parametrize("attacked", [True, False], ids=["attacked", "clean"])
def test_a_class_without_a_channel_is_refused_and_a_lone_name_is_one_class(trained, tmp_path, attacked):
    right = evaluation(network(trained), items(3), tmp_path / "right", attacked=attacked).tolist()
    data = DataLoader(Dataset(items(3)), batch_size=3)
    for classes, words in ((["a", "b"], "classes names 2 foreground classes .* the network has channels for 1"), ("lesion", None)):
        attack = AttackHandler("PGD", steps=2) if attacked else None
        records = RecordHandler(tmp_path / str(words), classes, attack=attack, gallery=False, card=False)
        handlers = [records] if attack is None else [attack, records]
        engine = SupervisedEvaluator("cpu", data, network=network(trained), val_handlers=handlers, postprocessing=ARGMAX)
        with pytest.raises(ValueError, match=words) if words else nullcontext():
            evaluate(engine, attack, records)
    table = read_records(tmp_path / "None" / "records").query("metric == 'dice'")
    assert table["value"].tolist() == right and set(table["class"]) == {"lesion"}


def test_an_empty_data_set_and_missing_weights_are_told_as_that(trained, tmp_path):
    with pytest.raises(ValueError, match="the data to evaluate hold no case"):
        evaluation(network(trained), [], tmp_path)
    records = RecordHandler(tmp_path, "lesion", gallery=False, card=False)
    load = CheckpointLoader(str(tmp_path / "model.pt"), {"model": network(trained)})
    engine = SupervisedEvaluator("cpu", DataLoader(Dataset(items(2))), network=network(trained), val_handlers=[load, records])
    with pytest.raises(FileNotFoundError, match="train the bundle first, or name with ckpt_dir.*model.pt"):
        evaluate(engine, None, records)
