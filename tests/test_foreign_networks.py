"""People's networks: other precisions, heads, sizes and habits. What comes out is the right value, or words."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from conftest import blobs, small_unet
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet
from torch import nn
from torch.nn import functional

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD
from monai_advdef.defenses import RandomizedFrequencyRefinement
from monai_advdef.metrics import mean_dice

NORMALIZE = (127.5, 127.5)
THREAT = ThreatModel(eps=4.0)
ATTACK = PGD(steps=3)


class Around(nn.Module):
    """``after(network(before(x)))``."""

    def __init__(self, network, before=lambda x: x, after=lambda x: x):
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, x):
        return self.after(self.network(self.before(x)))


def attack(network, cases, **settings):
    return run(ATTACK, Victim(network, NORMALIZE, **settings), THREAT, *cases)


def refused(network, cases, words, **settings):
    with pytest.raises(ValueError, match=words):
        attack(network, cases, **settings)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_network_in_another_precision_is_attacked_like_its_twin(trained, cases, dtype):
    outcome = attack(copy.deepcopy(trained).to(dtype), cases)
    assert outcome.adversarial.dtype == torch.float32 and bool((outcome.size <= 4).all())
    assert outcome.score.tolist() == pytest.approx(attack(trained, cases).score.tolist(), abs=0.05)


def test_weights_of_two_precisions_are_named(cases):
    network = small_unet()
    [m for m in network.modules() if isinstance(m, nn.Conv2d)][-1].double()
    refused(network, cases, r"UNet with weights in float32, float64 cannot compute on cpu .*network\.float\(\)")


def test_an_operation_that_the_precision_lacks_is_named(trained, cases):
    def lacking(x):
        raise RuntimeError("\"median_cpu\" not implemented for 'Half'")

    refused(Around(trained, lacking), cases, r"Around with weights in float32 cannot compute on cpu .*median_cpu.*network\.float")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.float64])
def test_images_of_any_type_give_the_same_result(trained, cases, dtype):
    outcome = attack(trained, (cases[0].to(dtype), cases[1].to(torch.uint8)))
    assert torch.equal(outcome.adversarial, attack(trained, cases).adversarial)
    with torch.no_grad():
        assert torch.allclose(Victim(trained, NORMALIZE)(cases[0].to(dtype)), Victim(trained, NORMALIZE)(cases[0]), atol=1e-4)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda n: torch.jit.trace(n, torch.zeros(1, 3, 48, 48)),
        lambda n: torch.jit.freeze(torch.jit.trace(n, torch.zeros(1, 3, 48, 48))),
        lambda n: torch.jit.script(n),
        lambda n: nn.DataParallel(nn.DataParallel(n)),
        lambda n: Around(n, after=lambda out: (out, torch.zeros(()))),
        lambda n: Around(n, after=lambda out: [out, out[..., ::2, ::2]]),
    ],
    ids=["traced", "frozen", "scripted", "wrapped twice", "tuple", "list of heads"],
)
def test_the_deployed_logits_are_found(trained, cases, wrap):
    made = attack(wrap(copy.deepcopy(trained)), cases)
    assert made.score.tolist() == pytest.approx(attack(trained, cases).score.tolist(), abs=0.02)


def test_deep_supervision_left_in_training_mode_is_attacked_as_deployed(cases):
    torch.manual_seed(0)
    network = DynUNet(2, 3, 2, [3, 3, 3], [1, 2, 2], [2, 2], deep_supervision=True, deep_supr_num=1)
    deployed = attack(copy.deepcopy(network).eval(), cases)
    assert torch.equal(attack(network.train(), cases).adversarial, deployed.adversarial) and network.training


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (lambda out: {"out": out, "aux": out}, "returned a dictionary with out, aux; wrap it"),
        (lambda out: torch.stack([out, out], 1), r"several heads in one tensor, \(6, 2, 2, 48, 48\)"),
        (lambda out: out * 1j, "returned complex numbers"),
        (lambda out: out.argmax(1), r"returned Tensor of shape \(6, 48, 48\)"),
        (lambda out: out.detach().round(), "without a gradient"),
        (lambda out: (), "returned tuple"),
        (lambda out: out[:1], "must return logits"),
    ],
)
def test_what_is_no_logits_is_refused(trained, cases, after, words):
    refused(Around(trained, after=after), cases, f"Around .*{words}|Around {words}")


@pytest.mark.parametrize("inferer", [None, SlidingWindowInferer((32, 32))])
def test_a_network_that_passes_no_gradient_back_is_named(cases, inferer):
    class Quantised(nn.Module):  # as int8 kernels do: the graph ends in their own weights
        def __init__(self):
            super().__init__()
            self.bias = torch.zeros(1, requires_grad=True)

        def forward(self, x):
            return x[:, :2].detach() + self.bias

    refused(Quantised(), cases, "gradient.*quantised", inferer=inferer)


@pytest.mark.parametrize("size", [30, 2])
def test_a_size_that_the_strides_do_not_divide_is_named_with_the_remedy(trained, size):
    image, label = blobs(2, size=48)
    network = trained if size == 30 else DynUNet(2, 3, 2, [3] * 4, [1, 2, 2, 2], [2, 2, 2])
    part = (image[..., :size, :size], label[..., :size, :size])
    refused(network, part, rf"cannot take images of size {size} x {size} .*DivisiblePadd.*inferer")
    refused(torch.jit.script(network), part, f"cannot take images of size {size} x {size}")


def test_windows_larger_than_the_image_pad_it(trained, cases):
    image, label = cases[0][..., :30, :26], cases[1][..., :30, :26]
    assert attack(trained, (image, label), inferer=SlidingWindowInferer((48, 48))).adversarial.shape == image.shape


def test_a_wrong_number_of_channels_is_named(trained, cases):
    refused(trained, (cases[0][:, :1], cases[1]), "UNet takes 3 channels, the images .* have 1")


# ------------------------------------------------------------------ networks that draw


@pytest.fixture
def forgetful(trained):
    return Around(trained, before=lambda x: functional.dropout(x, 0.3, training=True))


@pytest.fixture
def noisy(trained):
    return Around(trained, after=lambda out: out + 0.05 * out.detach().std() * torch.randn_like(out))


@pytest.mark.parametrize("kind", ["forgetful", "noisy"])
@pytest.mark.parametrize("inferer", [None, SlidingWindowInferer((32, 32), overlap=0.5)], ids=["whole", "windows"])
def test_a_network_that_draws_is_named_and_attacked_in_expectation(request, cases, kind, inferer):
    victim = Victim(request.getfixturevalue(kind), NORMALIZE, inferer=inferer, draws=6)
    cases = (cases[0][:3], cases[1][:3])
    with pytest.warns(UserWarning, match="Around draws at random in evaluation mode: two looks .* over 6 draws"):
        first = run(ATTACK, victim, THREAT, *cases, seed=[1, 2, 3])
    assert victim.stochastic and first.backwards == 6 * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once
        again = run(ATTACK, victim, THREAT, cases[0][1:], cases[1][1:], seed=[2, 3])
    assert torch.equal(first.adversarial[1:], again.adversarial) and torch.equal(first.score[1:], again.score)
    state = torch.get_rng_state()
    run(ATTACK, victim, THREAT, *cases)
    assert torch.equal(state, torch.get_rng_state()), "the caller's stream of random numbers was moved"


def test_the_score_of_a_network_that_draws_is_no_lucky_draw(forgetful, cases):
    victim = Victim(forgetful, NORMALIZE, draws=16)
    with pytest.warns(UserWarning, match="draws at random"):
        outcome = run(PGD(steps=10), victim, THREAT, *cases)
    with victim.frozen(), torch.no_grad():
        draws = [mean_dice(victim.predict(victim(outcome.adversarial)), cases[1].long(), 2) for _ in range(64)]
    assert float(outcome.score.mean()) == pytest.approx(1 - float(torch.stack(draws).mean()), abs=0.03)


def test_what_does_not_draw_is_not_accused(trained, cases):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (torch.float32, torch.bfloat16):
            attack(copy.deepcopy(trained).to(dtype), cases)
        attack(trained, cases, defense=RandomizedFrequencyRefinement(), draws=2)
        attack(Around(trained, after=lambda out: out * (1 + 1e-6 * torch.randn_like(out))), cases)  # rounding, as atomics have it


def test_looking_twice_costs_one_pass_and_one_case_and_once(trained, cases):
    looked = []
    hook = trained.register_forward_hook(lambda _, x, __: looked.append(len(x[0])))
    victim = Victim(trained, NORMALIZE)
    for expected in ([6, 1], []):
        run(PGD(steps=1, keep="last"), victim, THREAT, *cases)
        assert looked == [*expected, 6, 6]
        looked.clear()
    hook.remove()


def test_statistics_of_the_batch_in_evaluation_are_named(trained, cases):
    network = Around(trained, after=lambda out: functional.batch_norm(out, torch.zeros(2), torch.ones(2), training=True))
    refused(network, cases, "Around answers otherwise for a case when others stand beside it .*batch_size to 1")
    assert attack(network, (cases[0][:1], cases[1][:1])).size <= 4


def test_a_defence_that_draws_without_saying_so_is_named(trained, cases):
    class Jitter(nn.Module):
        def forward(self, x):
            return x + 5 * torch.randn_like(x)

    refused(trained, cases, "Jitter gives another image at every look.*stochastic to True", defense=Jitter())


def test_a_rounding_that_turns_the_other_way_at_a_tie_is_no_draw(trained, cases):
    class Ties(nn.Module):
        def forward(self, x):
            step = torch.zeros_like(x)
            step[..., 0, 0] = 20.0 if len(x) == 1 else 0.0
            return x + step

    assert bool((attack(trained, cases, defense=Ties()).size <= 4).all())


# ------------------------------------------------------------------ logits that are no numbers


def test_weights_that_are_no_numbers_are_named(trained, cases):
    for value in (float("nan"), float("inf")):
        network = copy.deepcopy(trained)
        next(network.parameters()).data.view(-1)[3] = value
        refused(
            network, cases, r"UNet gives NaN or infinite logits .*its weight 'model\.0\..*' is not finite: the training diverged"
        )


@pytest.mark.parametrize("inferer", [None, SlidingWindowInferer((32, 32))], ids=["whole", "windows"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_case_that_overflows_is_named(trained, cases, value, inferer):
    def overflow(x):
        return torch.where(x.mean((1, 2, 3), keepdim=True) < threshold, value, 1.0) * x

    image = cases[0].clone()
    image[4] = image[4] * 0.2
    threshold = -0.6
    refused(
        Around(trained, before=overflow), (image, cases[1]), "Around gives NaN or infinite logits for case 4 of", inferer=inferer
    )


def test_half_precision_that_overflows_is_named(trained, cases):
    network = copy.deepcopy(trained).half()
    network.register_forward_hook(lambda _, __, out: out * 60000)
    refused(network, cases, "float16 overflows above 65504")


@pytest.mark.parametrize("std", [0.0, -1.0, (1.0, 0.0, 1.0), float("nan")])
def test_a_normaliser_without_spread_is_refused(trained, cases, std):
    with pytest.raises(ValueError, match=r"normalize must be \(mean, std\) with finite numbers and std > 0"):
        run(ATTACK, Victim(trained, (127.5, std)), THREAT, *cases)


# ------------------------------------------------------------------ batches by hand


@pytest.mark.parametrize(
    ("image", "label", "words"),
    [
        (lambda x: x.numpy(), lambda y: y, "image must be a torch tensor .*ndarray"),
        (lambda x: list(x), lambda y: y, "image must be a torch tensor .*list"),
        (lambda x: x, lambda y: y.numpy(), "label must be a torch tensor"),
        (lambda x: x[0], lambda y: y[0], r"image must be a batch .*\(3, 48, 48\).*x\[None\]"),
        (lambda x: x, lambda y: y[:, 0], r"label must be a batch .*\(6, 48, 48\).*x\[:, None\]"),
        (lambda x: x[:0], lambda y: y[:0], "at least one voxel"),
        (lambda x: x * 1j, lambda y: y, "image must hold real numbers"),
        (lambda x: x, lambda y: y[..., :24], r"label has shape \(6, 1, 48, 24\), the image"),
        (lambda x: x, lambda y: y[:2], "cases and sizes must agree"),
        (lambda x: x, lambda y: torch.where(y > 0, 255.0, y), r"holds class 255, the network knows 0\.\.1"),
        (lambda x: x, lambda y: y - 1, "holds class -1"),
        (lambda x: x, lambda y: y / 2, "not whole numbers"),
        (lambda x: x, lambda y: y * torch.nan, "not whole numbers"),
        (lambda x: torch.where(x == x.max(), torch.nan, x), lambda y: y, "the image holds NaN"),
    ],
)
def test_what_is_no_batch_is_refused(trained, cases, image, label, words):
    with pytest.raises(ValueError, match=words):
        run(ATTACK, Victim(trained, NORMALIZE), THREAT, image(cases[0]), label(cases[1]))


def test_an_empty_mask_scores_1_as_soon_as_anything_is_found(trained, cases):
    outcome = run(ATTACK, Victim(trained, NORMALIZE), THREAT, cases[0], torch.zeros_like(cases[1]))
    assert outcome.score.tolist() == [1.0] * 6


# ------------------------------------------------------------------ masks per class


def one_hot(label):
    return torch.cat([1 - label, label], 1)


def test_masks_that_overlap_are_refused_for_a_softmax_head(trained, cases):
    image, label = cases
    masks = one_hot(label)
    same = attack(trained, (image, masks))
    assert torch.equal(same.adversarial, attack(trained, cases).adversarial)
    masks[2, 0] = 1
    count = int(label[2].sum())
    refused(trained, (image, masks), rf"label has masks that overlap: the classes 0, 1 share {count} voxels of case 2 .*'sigmoid'")
    with pytest.raises(ValueError, match="target has masks that overlap"):
        run(ATTACK, Victim(trained, NORMALIZE), THREAT, *cases, target=masks)
    assert attack(trained, (image, masks), activation="sigmoid").size.max() <= 4


def test_a_voxel_without_any_class_is_background(trained, cases):
    image, label = cases
    masks = torch.cat([torch.zeros_like(label), label], 1)
    assert torch.equal(attack(trained, (image, masks)).score, attack(trained, cases).score)
    refused(trained, (image, masks * 0.6), "not whole numbers")
