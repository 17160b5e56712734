"""
The optimizers, AdamW and Muon, and the learning rate of each step.

    optimizer = make_optimizer(model, cfg)       cfg.optimizer: "adamw" | "muon"
    lr = lr_at(step, cfg)                        cfg.schedule:  "cosine" | "wsd"
"""

import math

import torch

OPTIMIZERS, SCHEDULES = ("adamw", "muon"), ("cosine", "wsd")


def lr_at(step, cfg):
    """
    The learning rate of step number `step` (from 0): linear up to cfg.lr over the warm-up, then by cfg.schedule.

    "cosine": half a cosine, which reaches min_lr at the last step. "wsd" (warm-up, stable, decay; Hu et al. 2024): lr until the
    last wsd_decay of the steps, then 1 - sqrt(x) down to min_lr, the form that Haegele et al. 2024 found best. A "wsd" run
    whose decay has not begun may get more steps: its weights are those of a run with so many steps from the start.
    """
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    if cfg.schedule == "wsd":
        decay = max(1, round(cfg.wsd_decay * cfg.steps))
        done = max(0.0, (step + 1 - (cfg.steps - decay)) / decay)
        return cfg.min_lr + (cfg.lr - cfg.min_lr) * (1 - math.sqrt(min(1.0, done)))
    done = (step + 1 - cfg.warmup) / max(1, cfg.steps - cfg.warmup)
    return cfg.min_lr + (cfg.lr - cfg.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class CombinedOptimizer:
    """Several optimizers, each of its own parameters, behind the interface of one."""

    def __init__(self, *parts):
        self.parts = parts

    @property
    def param_groups(self):
        return [group for part in self.parts for group in part.param_groups]

    def step(self):
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none=True):
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self):
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state):
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)


def make_optimizer(model, cfg):
    """
    AdamW for all parameters, or Muon (Jordan 2024) for the layers' matrices and AdamW for the embedding and the norms.

    Weight decay is on matrices only. Muon's updates are scaled to the size of AdamW's (Moonlight 2025), so lr and weight_decay
    serve both; it keeps one moment instead of two, which saves 0.4 GB for 124 M parameters.
    """
    of_layers = [p for p in model.model.layers.parameters() if p.dim() == 2] if cfg.optimizer == "muon" else []
    ids = {id(p) for p in of_layers}
    matrices = [p for p in model.parameters() if p.dim() == 2 and id(p) not in ids]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": cfg.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    # fused: one pass over the parameters; on 2 cores 4 ms for 4 M parameters against 12 ms unfused
    adamw = torch.optim.AdamW(groups, lr=cfg.lr, betas=(cfg.beta1, cfg.beta2), eps=1e-8, fused=True)
    if not of_layers:
        return adamw
    muon = torch.optim.Muon(of_layers, lr=cfg.lr, weight_decay=cfg.weight_decay, adjust_lr_fn="match_rms_adamw")
    return CombinedOptimizer(muon, adamw)
