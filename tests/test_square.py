"""Square attack: what a box is, that the search only goes up, in 2D and 3D, and that it is stronger than noise."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import Noise, Square
from monai_advdef.attacks.square import HALVINGS, _box


@pytest.mark.parametrize("size", [(40, 48), (20, 24, 28), (3, 64, 64)])
def test_a_box_covers_its_share(size):
    g = torch.Generator().manual_seed(0)
    for share in (1e-6, 0.01, 0.2, 0.8):
        sides = {tuple(part.stop - part.start for part in _box(size, share, g)[1:]) for _ in range(20)}
        (found,) = sides
        edge = max(1, round((share * torch.tensor(size).prod().item()) ** (1 / len(size))))
        assert found == tuple(min(n, edge) for n in size)
    everywhere = torch.zeros(size)
    for _ in range(4000):
        everywhere[_box(size, 0.002, g)[1:]] += 1
    assert bool((everywhere > 0).float().mean() > 0.95)


def test_boxes_shrink_as_published():
    attack = Square(queries=10000, share=0.8)
    at = [attack._covered(n) for n in (0, *HALVINGS)]
    assert at == pytest.approx([0.8 / 2**i for i in range(len(HALVINGS) + 1)])


@pytest.mark.parametrize(("norm", "eps"), [("linf", 12.0), ("l2", 800.0)])
def test_stronger_than_noise_and_more_queries_are_stronger(victim, cases, norm, eps):
    threat = ThreatModel(norm=norm, eps=eps)
    ladder = [Noise(), Square(queries=20), Square(queries=120)]
    scores = [float(run(a, victim, threat, *cases).score.mean()) for a in ladder]
    assert scores[0] + 0.05 < scores[1] < scores[2]


def test_every_voxel_is_changed_by_all_of_eps(victim, cases):
    outcome = run(Square(queries=30), victim, ThreatModel(eps=4, value_range=(-10, 265)), *cases)
    assert torch.equal((outcome.adversarial - cases[0]).abs(), torch.full_like(cases[0], 4))
    bounded = run(Square(queries=30), victim, ThreatModel(norm="l2", eps=90, value_range=(-400, 700)), *cases)
    torch.testing.assert_close(bounded.size, torch.full((6,), 90.0, dtype=torch.float64), rtol=1e-4, atol=0)


def test_the_search_never_goes_down_and_a_case_does_not_see_its_batch(victim, cases):
    together = run(Square(queries=25), victim, ThreatModel(eps=8), *cases, seed=[3, 4, 5, 6, 7, 8])
    alone = run(Square(queries=25), victim, ThreatModel(eps=8), cases[0][2:3], cases[1][2:3], seed=5)
    torch.testing.assert_close(together.adversarial[2:3], alone.adversarial)
    assert torch.equal(together.score, together.trace.amax(0))
    other = run(Square(queries=25), victim, ThreatModel(eps=8), *cases, seed=9)
    assert not torch.equal(together.adversarial, other.adversarial)


def test_a_saturated_loss_is_searched_by_the_score(trained, cases):
    """Logits so large that the loss is flat leave the mask as the only answer."""

    class Flat(nn.Module):
        def forward(self, x):
            return 1e4 * trained((x - 127.5) / 127.5).sign()

    by_score = run(Square(queries=80, judge="score"), Victim(Flat()), ThreatModel(eps=12), *cases).score
    assert float(by_score.mean()) > float(run(Noise(), Victim(Flat()), ThreatModel(eps=12), *cases).score.mean()) + 0.05


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_volumes_of_several_classes_and_masks(norm):
    g = torch.Generator().manual_seed(0)
    image, label = (200 * torch.rand(2, 2, 8, 12, 10, generator=g)).round(), torch.randint(0, 3, (2, 1, 8, 12, 10), generator=g)
    network = nn.Conv3d(2, 3, 3, padding=1).eval()
    for head, mask in (("softmax", label), ("sigmoid", torch.cat([label == k for k in range(3)], 1).float())):
        threat = ThreatModel(norm=norm, eps=[6, 2] if norm == "linf" else 60.0)
        outcome = run(Square(queries=15), Victim(network, activation=head), threat, image, mask)
        assert (outcome.forwards, outcome.backwards) == (15, 0) and bool((outcome.size <= 60).all())
        if norm == "linf":
            assert ((outcome.adversarial - image).abs().amax((0, 2, 3, 4)) <= torch.tensor([6.0, 2.0])).all()


def test_a_budget_of_each_image_s_own(victim, cases):
    threat = ThreatModel(eps=4, relative=True, value_range="image", unit="%")
    outcome = run(Square(queries=10), victim, threat, *cases)
    assert bool((outcome.size <= 4 * (1 + 1e-6)).all()) and bool((outcome.size > 3.9).all())


@pytest.mark.parametrize(
    ("options", "words"), [({"share": 0}, "share must lie in"), ({"judge": "mask"}, "judge must be one of loss, score")]
)
def test_other_values_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Square(**options)


def test_without_a_bound_it_has_no_step(victim, cases):
    with pytest.raises(ValueError, match="Square changes boxes by eps; set norm"):
        run(Square(), victim, ThreatModel(norm="unbounded"), *cases)
