"""Learning rates by hand, the parameters of each optimizer, and resuming with each of the choices."""

import os
import signal

import pytest

import train
from model import ModelConfig, Phoenix
from phoenix.config import UserError
from phoenix.optimizers import CombinedOptimizer, lr_at, make_optimizer
from tests.training import at_step, losses, once, quick, run, weights_hash


def config(**settings):
    return train.Train(data="", out="", **settings)


def test_cosine_rises_then_falls_to_its_minimum():
    cfg = config(lr=1.0, min_lr=0.1, warmup=4, steps=104)
    assert [lr_at(step, cfg) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert lr_at(53, cfg) == pytest.approx(0.55)  # half of the cosine's way
    assert lr_at(103, cfg) == pytest.approx(0.1)


def test_wsd_is_level_until_its_decay_and_a_longer_run_shares_its_beginning():
    cfg, longer = (config(schedule="wsd", lr=1.0, min_lr=0.1, warmup=4, steps=steps, wsd_decay=0.2) for steps in (100, 200))
    assert [lr_at(step, cfg) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert {lr_at(step, cfg) for step in range(4, 80)} == {1.0}
    assert lr_at(84, cfg) == pytest.approx(0.1 + 0.9 * 0.5)  # a quarter of the decay: 1 - sqrt(1/4)
    assert lr_at(99, cfg) == pytest.approx(0.1)
    assert [lr_at(step, cfg) for step in range(80)] == [lr_at(step, longer) for step in range(80)]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_parameter_is_in_one_group_and_decay_is_on_matrices_only(optimizer):
    model = Phoenix(ModelConfig(50, 2, 2, 8, 16, 4))
    groups = make_optimizer(model, config(optimizer=optimizer)).param_groups
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in model.parameters())
    assert all(g["weight_decay"] == (0.1 if p.dim() == 2 else 0.0) for g in groups for p in g["params"])


def test_muon_has_the_layers_matrices_and_adamw_the_embedding_and_the_norms():
    model = Phoenix(ModelConfig(50, 2, 2, 8, 16, 4))
    optimizer = make_optimizer(model, config(optimizer="muon"))
    assert isinstance(optimizer, CombinedOptimizer)
    names = {id(p): name for name, p in model.named_parameters()}
    muon, adamw = ({names[id(p)] for g in part.param_groups for p in g["params"]} for part in optimizer.parts)
    assert len(muon) == 14 and all("_proj" in name for name in muon)
    assert adamw == {name for name in names.values() if "norm" in name} | {"model.embed_tokens.weight"}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"optimizer": "muon", "schedule": "wsd"}, {"qk_norm": True, "z_loss": 1e-3}])
def test_each_choice_trains_and_resumes_bit_for_bit(tiny_data, tmp_path, monkeypatch, settings):
    with quick():
        assert run(tiny_data, tmp_path / "straight", **settings) == 0
        with monkeypatch.context() as patch:
            at_step(patch, 13, once(lambda: os.kill(os.getpid(), signal.SIGTERM)))
            assert run(tiny_data, tmp_path / "out", **settings) == 143
        if "optimizer" in settings:
            with pytest.raises(UserError, match="has optimizer=muon, now optimizer=adamw"):
                run(tiny_data, tmp_path / "out")
        assert run(tiny_data, tmp_path / "out", **settings) == 0
    assert weights_hash(tmp_path / "out") == weights_hash(tmp_path / "straight")
    assert losses(tmp_path / "out") == losses(tmp_path / "straight")
    assert losses(tmp_path / "out")[-1][1] < losses(tmp_path / "out")[0][1] - 1
