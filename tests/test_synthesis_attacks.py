"""The synthesis attacks under ``run`` and on MONAI engines, and the training of the generator, all against the small victim."""

from __future__ import annotations

import json

import pytest
import torch
from engines import evaluator, items, loader, network
from generators import SMALL, random_generator
from ignite.engine import Events
from monai.utils import set_determinism

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import FieldAttack, SynthesisAttack
from monai_advdef.handlers import AttackHandler, AttackNotApplied, RecordHandler
from monai_advdef.handlers.synthesis import SynthesisHandler
from monai_advdef.records import read_records
from monai_advdef.synthesis import (
    Critic,
    FieldPenalty,
    FieldStore,
    PerturbationGenerator,
    SynthesisCheckpoint,
    SynthesisObjective,
    SynthesisTrainer,
    hinge,
    jacobian_determinant,
    load_generator,
    organ_cross_entropy,
    perceptibility,
    save_generator,
)

THREAT = ThreatModel(norm="unbounded")


def entropy(victim: Victim, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return organ_cross_entropy(victim(image), label.long())[0][:, 0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("generator") / "generator.pt"
    save_generator(random_generator(scale=0.3), path)
    return str(path)


# -- fitted to each image


@pytest.fixture(scope="module")
def fitted(victim, cases, tmp_path_factory):
    """The image, what the field attack made of it, and its fields."""
    folder = tmp_path_factory.mktemp("fields")
    image, label = cases[0][:3], cases[1][:3]
    attack = FieldAttack(steps=15, learning_rate=0.2, fields_dir=str(folder))
    return image, label, run(attack, victim, THREAT, image, label), FieldStore(folder)


def test_field_attack_raises_the_loss_of_every_case(victim, fitted):
    image, label, outcome, _ = fitted
    before, after = entropy(victim, image, label), entropy(victim, outcome.adversarial, label)
    assert bool((after > before + 0.5).all()) and float(outcome.score.mean()) > 0.1
    assert (outcome.forwards, outcome.backwards) == (16, 15)
    assert float(perceptibility(outcome.adversarial, image).max()) < 1


def test_fields_it_keeps_make_its_images_without_folds(fitted):
    image, _, outcome, store = fitted
    for i, made in enumerate(outcome.adversarial):
        fields = store.load(made)
        torch.testing.assert_close(fields.apply(image[i : i + 1]).clamp(0, 255)[0], made, atol=1e-3, rtol=0)
        assert float(fields.displacement.abs().max()) <= 2 and float(fields.intensity.abs().max()) <= 1
        assert float(jacobian_determinant(fields.displacement).min()) > 0


def test_a_voxel_counts_for_at_most_xi_unless_told_otherwise(victim, tmp_path):
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 0] = torch.tensor([9.0, -9.0])  # of two voxels of the organ one is very wrong, one is right
    for per_voxel, met in ((True, 1.0), (False, 0.0)):
        loss = FieldAttack(xi=2.0, per_voxel=per_voxel).loss(10 * logits, torch.ones(1, 1, 1, 2).long(), False, "softmax")
        assert -float(loss) == pytest.approx(met, abs=1e-6)
    assert trainer(victim, tmp_path, xi=1.5).objective.limit == 1.5
    assert trainer(victim, tmp_path, per_voxel="false").objective.limit == float("inf")


def test_asking_for_nothing_leaves_the_image_alone(victim, cases):
    outcome = run(FieldAttack(steps=3, xi=0.0), victim, THREAT, cases[0][:2], cases[1][:2])
    torch.testing.assert_close(outcome.adversarial, cases[0][:2], atol=1e-2, rtol=0)


@pytest.mark.parametrize("parts", ["deformation", "intensity"])
def test_variants_use_one_field(victim, cases, parts, tmp_path):
    outcome = run(FieldAttack(steps=2, parts=parts, fields_dir=str(tmp_path)), victim, THREAT, cases[0][:1], cases[1][:1])
    fields = FieldStore(tmp_path).load(outcome.adversarial[0])
    assert bool(fields.displacement.any()) is (parts == "deformation") and bool(fields.intensity.any()) is (parts == "intensity")


def test_a_case_does_not_depend_on_its_batch(victim, fitted):
    image, label, outcome, _ = fitted
    alone = run(FieldAttack(steps=15, learning_rate=0.2), victim, THREAT, image[:1], label[:1])
    torch.testing.assert_close(alone.adversarial, outcome.adversarial[:1], atol=0.5, rtol=0)


def test_a_box_around_the_image_is_respected(victim, cases):
    outcome = run(FieldAttack(steps=3), victim, ThreatModel(eps=4), cases[0][:2], cases[1][:2])
    assert 1 < float(outcome.size.max()) <= 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep": "best"}, "keep must be 'last', restarts 1 and target None, got 'best'"),
        ({"target": "background"}, "untargeted descent"),
        ({"xi": -1}, "xi must be ≥ 0, got -1"),
        ({"parts": "all"}, "parts must be one of"),
        ({"learning_rate": 0}, "learning_rate must be > 0, got 0"),
        ({"norm_intensity": -1}, "norm_intensity must be ≥ 0"),
    ],
)
def test_wrong_options_are_told(options, words):
    with pytest.raises(ValueError, match=words):
        FieldAttack(**options)


def test_wrong_use_is_told(victim, cases):
    image, label = cases[0][:1], cases[1][:1]
    with pytest.raises(ValueError, match="norm 'l2' has no meaning for fields"):
        run(FieldAttack(), victim, ThreatModel(norm="l2", eps=100), image, label)
    with pytest.raises(ValueError, match="max_displacement must lie in 0..1.95 voxels"):
        run(FieldAttack(spacing=4), victim, THREAT, image, label)
    with pytest.raises(ValueError, match="FieldAttack is untargeted"):
        run(FieldAttack(), victim, THREAT, image, label, target=label)


# -- the generator as an attack


def test_of_several_samples_the_worst_is_kept(victim, cases, weights):
    one, four = (run(SynthesisAttack(weights=weights, restarts=n), victim, THREAT, *cases, seed=3) for n in (1, 4))
    assert bool((four.score >= one.score - 1e-6).all()) and len(four.trace) == 4
    torch.testing.assert_close(four.score, four.trace.amax(0))
    assert (four.forwards, four.backwards) == (4, 0)


def test_attack_is_a_plain_configuration(weights):
    attack = SynthesisAttack(weights=weights)
    config = json.loads(json.dumps(attack.to_config()))
    assert config.pop("_target_") == "monai_advdef.attacks.SynthesisAttack" and SynthesisAttack(**config) == attack
    config = json.loads(json.dumps(FieldAttack(fields_dir="x").to_config()))
    assert config.pop("_target_") == "monai_advdef.attacks.FieldAttack" and FieldAttack(**config) == FieldAttack()


def test_another_generator_or_another_kind_of_image_is_refused(victim, cases, weights):
    with pytest.raises(ValueError, match="have SHA-256"):
        SynthesisAttack(weights=weights, sha256="0" * 64)
    with pytest.raises(ValueError, match="restarts must be 1 where sampled is false, got 2"):
        SynthesisAttack(weights=weights, sampled=False, restarts=2)
    with pytest.raises(ValueError, match="2D images of 3 channels"):
        run(SynthesisAttack(weights=weights), Victim(lambda x: x), THREAT, cases[0][:, :2], cases[1])


# -- readings for the records


def test_records_hold_what_the_fields_did(trained, weights, tmp_path):
    attack = AttackHandler("SynthesisAttack", THREAT, weights=weights, fields_dir=str(tmp_path / "f"), cache_dir=tmp_path / "cache")
    record = RecordHandler(tmp_path, ["lesion"], attack=attack, gallery=False, card=False)
    for _ in range(2):  # the second time from the cache
        evaluator(network(trained), [attack, record, SynthesisHandler(["lesion"], tmp_path / "f")]).run()
        table = read_records(tmp_path / "records")
        assert len(table) == 6 * (2 + 3 + 8 + 8) and (table["norm"] == "unbounded").all()
        image = table[table["class"] == "image"].pivot(index="case", columns="metric", values="value")
        assert (image["min_jacobian"] > 0).all() and (image["displacement_max_mm"] <= 3 * 2**0.5).all()
        assert (image["ssim"] < 1).all() and (image["perceptibility"] > 0).all()
        lesion = table[table["class"] == "lesion"].pivot(index="case", columns="metric", values="value")
        assert (lesion["clean_dice"] > 0.85).all() and lesion[["warped_dice", "motion_dice"]].stack().between(0, 1).all()
        evaluator(network(trained), [clean := RecordHandler(tmp_path / "clean", ["lesion"], gallery=False, card=False)]).run()
        expected = read_records(clean.records).query("metric == 'dice'").set_index("case")["value"]
        assert lesion["clean_dice"].tolist() == pytest.approx(expected[lesion.index].tolist())


def test_handler_without_its_attack_is_told(trained, tmp_path):
    with pytest.raises(AttackNotApplied, match="no attack touched batch 1"):
        evaluator(network(trained), [SynthesisHandler(["lesion"], tmp_path)]).run()
    elsewhere = AttackHandler(FieldAttack(steps=1), THREAT)
    with pytest.raises(FileNotFoundError, match="same fields_dir"):
        evaluator(network(trained), [elsewhere, SynthesisHandler(["lesion"], tmp_path)]).run()


# -- training


def _die() -> None:
    raise InterruptedError


def trainer(victim: Victim, folder, *, epochs: int = 2, cases: int = 8, rate: float = 1e-3, **options) -> SynthesisTrainer:
    set_determinism(seed=0)
    generator, critic = PerturbationGenerator(in_channels=3, **SMALL), Critic(in_channels=3, channels=(8, 16))
    data = loader(items(cases, meta=False), batch_size=4)
    data = type(data)(data.dataset, batch_size=4, shuffle=True)
    return SynthesisTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=data,
        generator=generator,
        critic=critic,
        victim=victim,
        threat=THREAT,
        generator_optimizer=torch.optim.RMSprop(generator.parameters(), lr=rate, alpha=0.9),
        critic_optimizer=torch.optim.RMSprop(critic.parameters(), lr=1e-4, alpha=0.9),
        train_handlers=[SynthesisCheckpoint(folder, interval=2)],
        **{"critic_steps": 1, **options},
    )


def test_resumed_training_ends_as_an_uninterrupted_one(victim, tmp_path):
    trainer(victim, tmp_path / "whole", epochs=3, seed=5).run()
    killed = trainer(victim, tmp_path / "parts", epochs=3, seed=5)
    killed.add_event_handler(Events.ITERATION_COMPLETED(once=3), _die)  # in the middle of the second epoch
    with pytest.raises(InterruptedError):
        killed.run()
    first = torch.load(tmp_path / "parts" / "training.pt", weights_only=True)
    torch.rand(7)  # what another process would have drawn
    trainer(victim, tmp_path / "parts", epochs=3, seed=5).run()
    whole, parts = (torch.load(tmp_path / n / "training.pt", weights_only=True) for n in ("whole", "parts"))
    assert (first["epoch"], parts["epoch"]) == (1, 3) and set(whole) == set(parts)
    for part in ("generator", "critic", "average"):
        for name, tensor in whole[part].items():
            torch.testing.assert_close(parts[part][name], tensor, atol=1e-6, rtol=1e-5)
    assert not torch.equal(*(s["generator"]["encoder.0.conv.weight"] for s in (first, parts)))
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == ["generator.pt", "generator_epoch_2.pt", "training.pt"]
    averaged, _ = load_generator(tmp_path / "parts" / "generator.pt")
    name = "encoder.0.conv.weight"
    assert torch.equal(averaged.state_dict()[name], parts["average"][f"module.{name}"])


def test_state_of_another_generator_is_refused(victim, tmp_path):
    trainer(victim, tmp_path, epochs=1).run()
    other = trainer(victim, tmp_path, epochs=2)
    other.critic.last = torch.nn.Linear(3, 1)
    with pytest.raises(ValueError, match=r"training.pt belongs to another generator or critic"):
        other.run()


@pytest.mark.parametrize("constraint", ["gradient_penalty", "clipping"])
def test_training_raises_the_loss_and_leaves_the_victim_alone(victim, cases, tmp_path, constraint):
    state = {k: v.clone() for k, v in victim.network.state_dict().items()}
    made = trainer(
        victim, tmp_path, epochs=16, rate=1e-2, decay=0.5, constraint=constraint, penalty=FieldPenalty(norm_displacement=0.1)
    )
    made.run()
    assert all(torch.equal(v, state[k]) for k, v in victim.network.state_dict().items())
    outcome = run(SynthesisAttack(weights=str(tmp_path / "generator.pt")), victim, THREAT, *cases)
    assert float(entropy(victim, outcome.adversarial, cases[1]).mean()) > float(entropy(victim, *cases).mean()) + 0.2
    if constraint == "clipping":
        assert max(float(p.detach().abs().max()) for p in made.critic.parameters()) <= 0.01 + 1e-8


def test_terms_add_up_and_nothing_is_asked_at_xi_0(victim, tmp_path):
    made = trainer(victim, tmp_path, epochs=1, xi=0.0)
    made.run()
    terms = made.state.output
    assert terms["hinge"] == 0
    assert terms["loss"] == pytest.approx(sum(terms[n] for n in ("adversarial", "hinge", "penalty", "divergence")), rel=1e-5)
    assert float(hinge(torch.tensor([[5.0]]), torch.tensor([[True]]), 2.0)) == 0


def test_the_objective_is_told_as_an_object_as_a_mapping_or_word_by_word(victim, tmp_path):
    """What one writes on the command line below the trainer goes before what stands in the objective."""
    plain = {"xi": 1.0, "per_voxel": False, "penalty": {"norm_intensity": 5.0}, "decay": 0.9}
    meant = SynthesisObjective(xi=1.0, per_voxel=False, penalty=FieldPenalty(norm_intensity=5.0), critic_steps=1, decay=0.9)
    for told in ({"objective": plain}, {"objective": meant}, plain, {"objective": {**plain, "decay": 0.5}, "decay": 0.9}):
        assert trainer(victim, tmp_path, **told).objective == meant
    with pytest.raises(TypeError, match="ksi"):
        trainer(victim, tmp_path, ksi=1.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"constraint": "spectral"}, "constraint must be one of gradient_penalty, clipping, got 'spectral'"),
        ({"xi": -1}, "xi must be ≥ 0 nats, got -1"),
        ({"critic_steps": 0}, "critic_steps must be ≥ 1, got 0"),
        ({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1"),
    ],
)
def test_wrong_training_options_are_told(victim, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        trainer(victim, tmp_path, **options)
