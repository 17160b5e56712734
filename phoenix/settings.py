"""The checks of train.py's settings: each impossible value is refused with one sentence before anything is read or written."""

import math
from pathlib import Path

from phoenix import nas, zero_shot
from phoenix.config import UserError
from phoenix.optimizers import OPTIMIZERS, SCHEDULES


def check(cfg):
    """UserError for a value of a train.Train that no run could have."""
    at_least_1 = "seq_len micro_batch tokens_per_step steps eval_every log_every ckpt_every cpu_threads rollback_after keep_last"
    for name in [*at_least_1.split(), "keep_every", "zero_shot_every", "zero_shot_limit"]:
        if getattr(cfg, name) is not None and getattr(cfg, name) < 1:
            raise UserError(f"{name}={getattr(cfg, name)} must be at least 1")
    for name in ("lr", "clip", "ckpt_minutes", "spike_z", "gpu_memory_gb"):
        if getattr(cfg, name) is not None and not 0 < getattr(cfg, name) < math.inf:
            raise UserError(f"{name}={getattr(cfg, name)} must be above 0")
    at_least_0 = "min_lr warmup seed weight_decay sample_tokens eval_tokens z_loss rollback_margin nas_wait"
    for name in at_least_0.split():
        if not 0 <= getattr(cfg, name) < math.inf:
            raise UserError(f"{name}={getattr(cfg, name)} must be at least 0")
    if cfg.seed >= 2**63:
        raise UserError(f"seed={cfg.seed} must be below 2^63")
    if cfg.min_lr > cfg.lr:
        raise UserError(f"lr={cfg.lr} is below min_lr={cfg.min_lr}: the learning rate would rise; give a lower min_lr too")
    if cfg.warmup >= cfg.steps:
        raise UserError(f"warmup={cfg.warmup} must be below steps={cfg.steps}, or the run ends before it reaches lr={cfg.lr}")
    if cfg.schedule == "wsd" and cfg.warmup + cfg.wsd_decay * cfg.steps > cfg.steps:
        raise UserError(f"warmup={cfg.warmup} and the decay of wsd_decay={cfg.wsd_decay} overlap in steps={cfg.steps}")
    for name in ("beta1", "beta2"):
        if not 0 <= getattr(cfg, name) < 1:
            raise UserError(f"{name}={getattr(cfg, name)} must be at least 0 and below 1")
    if not 0 < cfg.wsd_decay <= 1:
        raise UserError(f"wsd_decay={cfg.wsd_decay} must be above 0 and at most 1")
    if cfg.tokens_per_step % (cfg.micro_batch * cfg.seq_len):
        micro = f"micro_batch*seq_len={cfg.micro_batch * cfg.seq_len}"
        raise UserError(f"tokens_per_step={cfg.tokens_per_step} must be a multiple of {micro}")
    for name, known in (("dtype", (None, "bfloat16", "float32")), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        if getattr(cfg, name) not in known:
            raise UserError(f"{name} must be {' or '.join(str(k) for k in known)}, not {getattr(cfg, name)!r}")
    if "://" in cfg.out:
        raise UserError(f"out={cfg.out} must be a folder on this machine: training writes it often; nas= keeps a copy elsewhere")
    if "://" in cfg.data:
        raise UserError(f"data={cfg.data} must be a folder on this machine, for shards are mapped into memory: copy it here first")
    for url in (cfg.nas, cfg.resume_from):
        nas.check_settings(url, cfg.nas_password_file)
    copy = nas.local_folder(cfg.nas) if cfg.nas else None
    if copy is not None and copy.resolve() == Path(cfg.out).resolve():
        raise UserError(f"nas={cfg.nas} is out={cfg.out} itself: a copy needs another folder")
    if cfg.zero_shot_every and (problem := zero_shot.problem(cfg.zero_shot_tasks, cfg.zero_shot_data)):
        raise UserError(problem)
