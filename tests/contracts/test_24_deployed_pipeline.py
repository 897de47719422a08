"""Promise 24: what is attacked is what is scored: inferer, defence and postprocessing; metadata is kept."""

from __future__ import annotations

import pytest
import torch
from engines import evaluator, items, network
from ignite.engine import Events
from monai.inferers import SimpleInferer, SlidingWindowInferer

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD
from monai_advdef.defenses import JPEG, DefendedInferer, FrequencyRefinement
from monai_advdef.handlers import AttackHandler, RecordHandler
from monai_advdef.handlers.cell import case_seeds
from monai_advdef.records import read_records

SLIDING = SlidingWindowInferer((32, 32), overlap=0.5, mode="gaussian", sw_batch_size=2)
DEPLOYED = {
    "plain": SimpleInferer(),
    "sliding window": SLIDING,
    "JPEG": DefendedInferer(SimpleInferer(), JPEG()),
    "FR and sliding window": DefendedInferer(SLIDING, FrequencyRefinement()),
}


@pytest.mark.parametrize("name", DEPLOYED)
def test_the_network_sees_what_the_attack_made_and_its_prediction_is_scored(trained, tmp_path, name):
    inferer, net, data = DEPLOYED[name], network(trained), items(4)
    image, label = (torch.stack([torch.as_tensor(d[k]).as_tensor() for d in data]) for k in ("image", "label"))
    victim = Victim(net, inferer=inferer)
    outcome = run(PGD(steps=4), victim, ThreatModel(eps=8.0), image, label, seed=case_seeds(0, [d["case"] for d in data]))

    attack = AttackHandler("PGD", steps=4)
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, card=False)
    engine = evaluator(net, [records, attack], data=data, inferer=inferer, batch_size=4)
    fed, batches = [], []

    def listen(_, x):
        fed.append(torch.as_tensor(x[0]).clone())

    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: net.register_forward_pre_hook(listen))
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: batches.append((e.state.batch, e.state.output)))
    engine.run()

    seen, scored = batches[0]
    assert all(torch.equal(s["image"].as_tensor(), o) for s, o in zip(seen, outcome.adversarial))
    assert [s["image"].meta["filename_or_obj"] for s in seen] == [f"case_{i}.png" for i in range(4)]
    expected = []
    hook = net.register_forward_pre_hook(lambda _, x: expected.append(x[0].clone()))
    with torch.no_grad():
        inferer(outcome.adversarial, net.eval())
    hook.remove()
    assert len(fed) >= len(expected) and all(torch.equal(a, b) for a, b in zip(fed, expected))
    with torch.no_grad():
        masks = victim(outcome.adversarial).argmax(1)
    assert all(torch.equal(o["pred"][1].as_tensor().long(), m) for o, m in zip(scored, masks))
    dice = read_records(tmp_path / "records").query("metric == 'dice'").set_index("case")["value"]
    assert [dice[d["case"]] for d in data] == pytest.approx((1 - outcome.score).tolist(), abs=1e-6)


def test_scored_is_what_the_postprocessing_hands_out(trained, tmp_path):
    """With an erosion of the lesion as the last step of the postprocessing, the rows fall with it."""

    def erode(item):
        item["pred"][1] = -torch.nn.functional.max_pool2d(-item["pred"][None, 1].float(), 9, 1, 4)[0]
        item["pred"][0] = 1 - item["pred"][1]
        return item

    def dice(folder, *after):
        records = RecordHandler(folder, ["lesion"], card=False)
        evaluator(network(trained), [records], data=items(3), after=after).run()
        return read_records(folder / "records").query("metric == 'dice'")["value"]

    assert (dice(tmp_path / "eroded", erode) < dice(tmp_path / "whole") - 0.1).all()
