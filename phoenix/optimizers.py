"""
What turns gradients into updates: AdamW or Muon, and the learning rate at each step.

    optimizer = make_optimizer(model, cfg)       cfg.optimizer: "adamw" | "muon"
    lr = lr_at(step, cfg)                        cfg.schedule:  "cosine" | "wsd"
"""

import math

import torch

OPTIMIZERS, SCHEDULES = ("adamw", "muon"), ("cosine", "wsd")


def lr_at(step, cfg):
    """
    Linear from 0 over the warm-up, reaching lr at its last step. Then "cosine": half a cosine that reaches min_lr at the last step.
    "wsd" (warm-up, stable, decay; Hu et al. 2024): lr until the last wsd_decay of the steps, then 1 - sqrt(x) down to min_lr, the
    form that Haegele et al. 2024 found best. A run whose decay has not begun may be made longer without a trace in its weights.
    """
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    if cfg.schedule == "wsd":
        decay = max(1, round(cfg.wsd_decay * cfg.steps))
        done = max(0.0, (step + 1 - (cfg.steps - decay)) / decay)
        return cfg.min_lr + (cfg.lr - cfg.min_lr) * (1 - math.sqrt(min(1.0, done)))
    done = (step + 1 - cfg.warmup) / max(1, cfg.steps - cfg.warmup)
    return cfg.min_lr + (cfg.lr - cfg.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Together:
    """Two optimizers as one."""

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
    AdamW for all, or Muon (Jordan 2024) for the layers' matrices and AdamW for the embedding and the norms. Weight decay is on
    matrices only. Muon's updates are scaled to the size of AdamW's (Moonlight 2025), so lr and weight_decay serve both; it keeps
    one moment instead of two, which saves 0.4 GB for 124 M parameters.
    """
    matrices = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    by_muon = [p for layer in model.model.layers for p in layer.parameters() if p.dim() == 2] if cfg.optimizer == "muon" else []
    taken = {id(p) for p in by_muon}
    matrices = [p for p in matrices if id(p) not in taken]
    groups = [{"params": matrices, "weight_decay": cfg.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    # fused: one pass over the parameters; on 2 cores 4 ms for 4 M parameters against 12 ms unfused
    adamw = torch.optim.AdamW(groups, lr=cfg.lr, betas=(cfg.beta1, cfg.beta2), eps=1e-8, fused=True)
    if not by_muon:
        return adamw
    return Together(torch.optim.Muon(by_muon, lr=cfg.lr, weight_decay=cfg.weight_decay, adjust_lr_fn="match_rms_adamw"), adamw)
