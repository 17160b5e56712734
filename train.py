"""
Trains a model on the data engine's shards.   python train.py configs/125m.py [--key=value ...]
What it will need, without starting it:       python train.py configs/125m.py --plan [--card="RTX 3060"]

Run it again after Ctrl-C, SIGTERM, kill -9 or a power cut: it goes on from the newest whole checkpoint in `out` and ends with
the same weights as a run that was never stopped, bit for bit, on the same machine with the same settings. (On a CPU the number
of threads decides the order of sums and so the last bits: it is kept in the checkpoint, and a change is said.)

Leaves in `out`: ckpt.pt (the newest checkpoint), ckpt-STEP.pt and manifest.json, log.jsonl (a row a logged step), tensorboard/,
loss.png, sample.txt, tokenizer/. With --nas a verified copy of all that on a share (nas.py).
Exit codes: 0 done, 2 a mistake in settings or data, 130 and 143 stopped by Ctrl-C or SIGTERM with a checkpoint written.
"""

import dataclasses
import math
import os
import platform
import shutil
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Threads that wait for each other spin for milliseconds by default: 0.7 thousand tokens/s with 2 threads on 2 busy cores against
# 3.3 thousand with this, for about 10 % on idle ones. Read by OpenMP when torch is imported; it changes no result.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
import torch

from model import ModelConfig, Phoenix
from phoenix import checkpoint, guards, nas, plan, settings, zero_shot
from phoenix import device as machine
from phoenix.batches import data_step, open_data, windows_of_step
from phoenix.config import UserError, load, main_guard
from phoenix.optimizers import lr_at, make_optimizer
from phoenix.run_log import Progress, RunLog, commit, duration, say
from phoenix.signals import signals_noted
from phoenix.validation import sample, token_bytes, validate


@dataclass(frozen=True)
class Train:
    data: str  # run folder of the data engine: holds shards/ and tokenizer/
    out: str  # folder of this run; a checkpoint in it is gone on from
    plan: bool = False  # say what the run will need, and leave
    card: str | None = None  # GPU to plan for, "RTX 3080 Ti"; None: the one that is here, else an RTX 3080 Ti
    # model
    n_layer: int = 12  # layers
    n_head: int = 12  # heads of attention
    d_model: int = 768  # width of the residual stream
    d_ff: int = 2560  # hidden width of the SwiGLU; 2560 makes 124.3 M parameters
    vocab_size: int | None = None  # None: the data's; a number is checked against it
    qk_norm: bool = False  # normalise queries and keys (exports as Qwen3)
    # data
    verify: bool = False  # compare the shards with their sha256 before the start
    seq_len: int = 1024  # tokens a sequence, which is the model's context
    micro_batch: int = 16  # sequences at a time: as many as memory holds; the result is the same but for rounding
    tokens_per_step: int = 524_288  # of one update: micro-batches are accumulated up to it
    steps: int = 3815  # updates of the whole run
    # optimizer
    optimizer: str = "adamw"  # or "muon": for the layers' matrices, AdamW for the rest
    schedule: str = "cosine"  # or "wsd": warm-up, stable, decay
    lr: float = 6e-4  # peak learning rate
    min_lr: float = 6e-5  # where the schedule ends
    warmup: int = 256  # steps of linear rise to lr
    wsd_decay: float = 0.2  # the last part of the steps, in which "wsd" decays
    beta1: float = 0.9  # decay of AdamW's mean of gradients
    beta2: float = 0.95  # decay of its mean of squares
    weight_decay: float = 0.1  # on matrices, the embedding among them since it is the head too; not on the norms' weights
    clip: float = 1.0  # greatest norm of the gradient
    z_loss: float = 0.0  # weight of log(Z)^2 in what is minimised, 1e-4 where logits drift; the log shows cross-entropy alone
    # guards
    rollback_after: int = 5  # steps in a row that are not finite (each is skipped) before the run goes back to a checkpoint
    spike_z: float | None = 8.0  # standard deviations above the recent losses that send it back at once; None: never
    rollback_margin: int = 8  # steps before a spike whose data is left out with the spike's own
    # machine
    device: str | None = None  # "cuda", "cpu", ...; None: cuda where there is one
    dtype: str | None = None  # of the matrix products, "bfloat16" or "float32"; None: bfloat16 where the hardware has it
    compile: bool | None = None  # torch.compile; None: on cuda only (a CPU would compile longer than the quickstart trains)
    grad_checkpointing: bool = False  # recompute activations: about 1/10 of their memory for a quarter more work
    deterministic: bool = True  # only operations that repeat to the bit: without it a resumed run on cuda may differ
    cpu_threads: int | None = None  # threads of a CPU run; None: torch's choice
    gpu_memory_gb: float | None = None  # cap of the allocator in GiB: to try what fits a smaller card; None: the card's
    # what is seen and kept
    eval_every: int = 250  # steps between two validations; also at the start and the end
    eval_tokens: int = 1_048_576  # tokens of the validation, always the same windows, spread over the val split
    zero_shot_every: int | None = None  # steps between two zero-shot evaluations; None: none
    zero_shot_tasks: tuple[str, ...] = ("hellaswag", "lambada_openai", "arc_easy")  # tasks of evaluate.py
    zero_shot_limit: int = 500  # items of each task
    zero_shot_data: str | None = None  # folder with the tasks' files; None: from the Hub
    log_every: int = 1  # steps between two rows of log.jsonl
    ckpt_every: int = 1000  # steps between two checkpoints
    ckpt_minutes: float = 30.0  # minutes between two checkpoints, whichever comes first
    keep_last: int = 3  # checkpoints that are kept
    keep_every: int | None = None  # and the first one at or after every so many steps; None: no more
    nas: str | None = None  # smb://user@host/share/path or any fsspec URL: a verified copy of `out`, made in the background
    nas_password_file: str | None = None  # mode 600; None: the environment's PHOENIX_NAS_PASSWORD
    nas_wait: float = 30.0  # minutes that the end of the run waits for the copy
    resume_from: str | None = None  # a folder that nas= wrote, to begin from where `out` holds no checkpoint
    sample_tokens: int = 200  # tokens of text to write at the end
    seed: int = 1  # of the initial weights, the order of the data and the sample


def accumulate(model, tokens_BT, targets_BT, micro_batch, here, z_loss=0.0):
    """
    Adds the gradient of the mean over all targets, micro-batch by micro-batch, and returns their mean cross-entropy, a tensor.
    Every part is divided by the total number of targets, so N micro-batches of 1 give what 1 of N gives.
    """
    total = torch.zeros((), device=here.device)
    for tokens, targets in zip(tokens_BT.split(micro_batch), targets_BT.split(micro_batch), strict=True):
        tokens, targets = (t.to(here.device, non_blocking=True) for t in (tokens, targets))
        with here.precision():
            minimised, nats = model.objective(tokens, targets, z_loss)
        (minimised / targets_BT.numel()).backward()
        total += nats.detach() / targets_BT.numel()
    return total


def main(argv):
    cfg = load(Train, argv)
    settings.check(cfg)
    if cfg.plan:
        return plan.main(cfg)
    with checkpoint.locked(Path(cfg.out)):
        return run(cfg, argv)


def run(cfg, argv):
    """The run, from its newest checkpoint in `out` to its end or a signal. -> exit code"""
    here = machine.prepare(cfg)
    device = here.device

    # ---- data
    out, data = Path(cfg.out), open_data(cfg)
    train, val = data.train, data.val
    windows_per_step = cfg.tokens_per_step // cfg.seq_len

    def fetch(step):
        """The batch of a step, pinned for an asynchronous copy to the GPU; read in a thread while the step before runs."""
        windows = windows_of_step(data_step(step, state["left_out"]), windows_per_step, train.count, cfg.seed)
        return train.batch(windows, pin=here.cuda)

    # ---- model and optimizer
    torch.manual_seed(cfg.seed)
    sizes = {name: getattr(cfg, name) for name in ("n_layer", "n_head", "d_model", "d_ff", "qk_norm")}
    model_config = ModelConfig(vocab_size=data.vocab_size, context=cfg.seq_len, **sizes)
    model = Phoenix(model_config).to(device)  # made on the CPU: the same initial weights on every device
    model.model.checkpointing = cfg.grad_checkpointing
    optimizer = make_optimizer(model, cfg)
    bytes_V = token_bytes(data.tokenizer_json).to(device)
    params, flops = model.parameter_count(), model.flops_per_token()
    compiled = cfg.compile if cfg.compile is not None else here.cuda
    if compiled:
        tokens_BT, targets_BT = train.batch(windows_of_step(0, windows_per_step, train.count, cfg.seed)[: cfg.micro_batch])
        problem = machine.compile_checked(model, tokens_BT.to(device), targets_BT.to(device), here, cfg.z_loss)
        if problem:
            say(f"the model runs uncompiled, slower and with more memory, because {problem}")
            compiled = False

    # ---- the run so far
    described = {
        "format": checkpoint.FORMAT,
        "version": checkpoint.FORMAT_VERSION,
        "model_config": dataclasses.asdict(model_config),
        "settings": dataclasses.asdict(cfg) | {"dtype": here.dtype, "compile": compiled, "cpu_threads": here.threads},
        "tokenizer_sha256": data.tokenizer_sha256,
        "shards_sha256": data.shards_sha256,
    }
    # what a run's progress is, beside its tensors
    state = {"run": uuid.uuid4().hex, "step": 0, "tokens": 0, "secs": 0.0, "kwh": 0.0, "rollbacks": 0} | guards.new_state()
    state |= {"first_val_loss": None, "first_val_bpb": None, "val_loss": None, "val_bpb": None}
    if cfg.resume_from and not checkpoint.checkpoint_files(out):
        nas.fetch(cfg.resume_from, out, cfg.nas_password_file, say)
    saved, refused = checkpoint.newest_checkpoint(out)
    for sentence in refused:
        say(sentence)
    if saved:
        news = checkpoint.changed_settings(saved, described, out / "ckpt.pt")
        if news:
            say(f"changed since the checkpoint: {news}; the weights will not equal those of a straight run")
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.copytree(data.tokenizer_json.parent, out / "tokenizer", dirs_exist_ok=True)  # a checkpoint's folder is complete
    except OSError as error:
        raise UserError(f"out={out} cannot be written: {error}") from error

    def restore(saved):
        model.load_state_dict(saved["model"])
        as_set = [{name: v for name, v in group.items() if name != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(saved["optimizer"])
        for group, values in zip(optimizer.param_groups, as_set, strict=True):
            group.update(values)  # weight_decay and the like are the settings', not the checkpoint's
        torch.set_rng_state(saved["rng"]["cpu"])
        if here.cuda and saved["rng"]["cuda"] is not None:
            torch.cuda.set_rng_state(saved["rng"]["cuda"], device)
        state.update({name: saved.get(name, state[name]) for name in state})

    begun = saved is not None
    if begun:
        restore(saved)
    del saved  # a second copy of the weights
    went_on, secs_before, began = state["step"], state["secs"], time.perf_counter()
    log = RunLog(out, until=went_on if went_on else -1, left_out=state["left_out"])
    mirror = nas.Mirror(cfg.nas, out, cfg.keep_last, cfg.keep_every, cfg.nas_password_file, say) if cfg.nas else None

    def save():
        rng = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(device) if here.cuda else None}
        tensors = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": rng}
        state["secs"] = secs_before + time.perf_counter() - began
        checkpoint.save_checkpoint(out, described | state | tensors, cfg.keep_last, cfg.keep_every)
        log.flush()
        if mirror:
            mirror.changed()

    # ---- the arithmetic of the run
    run_tokens = cfg.steps * cfg.tokens_per_step
    about = {
        "arguments": " ".join(argv),
        "commit": commit(),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
        "device": f"{device.type} ({here.name}), {here.dtype}, {'compiled' if compiled else 'not compiled'}",
        "data": f"{cfg.data}, {data.train_tokens:,} tokens to train on, corpus {data.shards_sha256[:12]}",
        "model": f"{params / 1e6:.1f} M parameters ({params:,}), vocabulary {data.vocab_size:,}",
        "step": f"{cfg.tokens_per_step:,} tokens = {windows_per_step // cfg.micro_batch} x {cfg.micro_batch} x {cfg.seq_len}",
        "run": f"{cfg.steps:,} steps = {run_tokens / 1e6:,.1f} M tokens = {run_tokens / train.count / cfg.seq_len:.2f} epochs",
        "work": f"{flops / 1e6:.1f} MFLOP a token (6 N + 12 L D T), {run_tokens * flops:.2e} FLOP in all",
    }
    if here.peak_flops:
        about["mfu"] = f"of {here.peak_flops / 1e12:.1f} TFLOPS, dense bfloat16 with fp32 sums; recomputed activations are no work"
    for name, text in about.items():
        say(f"{name:<10}{text}")
    if went_on >= cfg.steps:
        say(f"{out} is done already: {went_on} of {cfg.steps} steps")
    elif went_on:
        say(f"going on from step {went_on} of {cfg.steps}")
    if went_on < cfg.steps:
        log.row(step=went_on, tokens=state["tokens"], started=time.strftime("%Y-%m-%dT%H:%M:%S%z"), about=about)

    def check_val():
        result = validate(model, val, data.val_windows, cfg.micro_batch, bytes_V, device, here.precision)
        state.update(result)
        log.row(step=state["step"], tokens=state["tokens"], **result)
        say(f"step {state['step']}: val loss {result['val_loss']:.4f} nats per token, {result['val_bpb']:.4f} bits per byte")

    def draw():
        log.plot(f"{out.name}: {params / 1e6:.1f} M parameters, {state['val_bpb']:.3f} bits per byte")

    # ---- the loop
    progress, rate, done, saved_at = Progress(went_on, cfg.steps), 0.0, 0, time.perf_counter()
    rollbacks_here, place = 0, -math.inf
    with signals_noted() as stops, ThreadPoolExecutor(1) as reader, progress:
        ahead = reader.submit(fetch, went_on)
        if mirror:
            mirror.changed()  # what a run before could not send
        if went_on == 0:
            check_val()
            state |= {"first_val_loss": state["val_loss"], "first_val_bpb": state["val_bpb"]}
            if not begun:  # else it is there already
                save()  # where a rollback can always go; and a disk or a share that cannot be written is met now
        while state["step"] < cfg.steps:
            step_began = time.perf_counter()
            tokens_BT, targets_BT = ahead.result()
            ahead = reader.submit(fetch, state["step"] + 1)
            lr = lr_at(state["step"], cfg)
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss = accumulate(model, tokens_BT, targets_BT, cfg.micro_batch, here, cfg.z_loss).item()
            grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip).item()
            action, reason = guards.judge(state, loss, grad_norm, cfg)
            if action == "update":
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if action == "skip":
                say(f"step {state['step'] + 1}: {reason}: update skipped ({state['skipped']} in all)")
            if action == "roll back":
                last = state["step"]
                if last > place + cfg.rollback_margin:  # past the place that sent it back before: this is another
                    rollbacks_here, place = 0, last
                rollbacks_here += 1
                if rollbacks_here > guards.MAX_ROLLBACKS:
                    why = f"{guards.MAX_ROLLBACKS} rollbacks brought no way past it"
                    raise UserError(f"step {last + 1}: {reason}; {why}: a lower lr, a higher spike_z or rollback_after may")
                restore(guards.roll_back(out, state, cfg))
                log.back_to(state["step"], state["left_out"])
                about_it = {"rollback_from": last + 1, "reason": reason, "left_out": state["left_out"]}
                log.row(step=state["step"], tokens=state["tokens"], **about_it)
                say(f"step {last + 1}: {reason}: back to step {state['step']}, data of steps {state['left_out']} left out")
                ahead = reader.submit(fetch, state["step"])
                progress.back_to(state["step"])
                continue
            state["step"] += 1
            state["tokens"] += cfg.tokens_per_step
            step, last, done = state["step"], state["step"] == cfg.steps, done + 1

            step_secs, watts = time.perf_counter() - step_began, here.watts()
            rate_now = cfg.tokens_per_step / step_secs
            rate = rate_now if done <= 2 else 0.9 * rate + 0.1 * rate_now  # the first step warms up, or compiles
            mfu = rate_now * flops / here.peak_flops if here.peak_flops else None
            state["kwh"] += watts * step_secs / 3.6e6 if watts else 0.0
            if step % cfg.log_every == 0 or last:
                numbers = {"loss": loss, "grad_norm": grad_norm, "lr": lr, "tokens_per_sec": round(rate_now), "mfu": mfu}
                log.row(
                    step=step, tokens=state["tokens"], **numbers, memory_gb=here.memory_gb(), watts=watts, skipped=state["skipped"]
                )
            status = f"loss {loss:.3f}  lr {lr:.1e}  {rate:,.0f} tokens/s" + (f"  MFU {mfu:.0%}" if mfu else "")
            status += f"  {watts:.0f} W" if watts else ""
            status += f"  {mirror.status()}" if mirror else ""
            progress.step(step, status, secs_left=(cfg.steps - step) * cfg.tokens_per_step / rate)
            if step % cfg.eval_every == 0 or last:
                check_val()
                if not last:
                    draw()
            score_it = cfg.zero_shot_every and (step % cfg.zero_shot_every == 0 or last)
            if step % cfg.ckpt_every == 0 or last or stops or score_it or time.perf_counter() - saved_at > 60 * cfg.ckpt_minutes:
                save()
                saved_at = time.perf_counter()
            if score_it:
                tasks = cfg.zero_shot_tasks, cfg.zero_shot_limit, cfg.zero_shot_data
                scores = zero_shot.score(model, out / "tokenizer", *tasks, device)
                log.row(step=step, tokens=state["tokens"], **scores)
                say(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
            if stops and not last:
                draw()
                name = signal.Signals(stops[0]).name
                log.close()
                if mirror:
                    say(mirror.close(secs=10))  # who stops a run does not want to wait
                say(f"stopped by {name} after step {step}, saved in {out / 'ckpt.pt'}: the same command goes on from there")
                return 128 + stops[0]

    # ---- the end
    if went_on < cfg.steps or not (out / "sample.txt").is_file():
        text = sample(model, out / "tokenizer" / "tokenizer.json", data.eot, cfg, device)
        try:
            (out / "sample.txt").write_text(text + "\n")
        except OSError as error:
            say(f"{out / 'sample.txt'} could not be written: {error.strerror}")
    else:
        text = (out / "sample.txt").read_text()
    draw()
    log.close()
    say("sample: " + text.strip())
    if mirror:
        say(mirror.close(secs=60 * cfg.nas_wait))
    energy = f", {state['kwh']:.2f} kWh" if state["kwh"] else ""
    say(
        f"{state['step']:,} steps, {state['tokens'] / 1e6:,.1f} M tokens in {duration(state['secs'])}{energy}: "
        f"val loss {state['first_val_loss']:.3f} -> {state['val_loss']:.3f} nats per token, "
        f"{state['first_val_bpb']:.3f} -> {state['val_bpb']:.3f} bits per byte; {out / 'ckpt.pt'}, {out / 'loss.png'}"
    )
    return 0


if __name__ == "__main__":
    main_guard(main)
