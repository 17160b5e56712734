"""
The device that trains: its dtype, memory and power, and compiling where that is safe.

A compiled model is compared with the plain one before the first step, since compilers have given NaN on some machines and not
on others. Where loss or gradients of one micro-batch differ, or no compiler is installed, the run goes on uncompiled and says so.
"""

import contextlib
import functools
import importlib.util
import os
import platform
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch._functorch.config

from phoenix import ops
from phoenix.config import UserError
from phoenix.plan import card_named


@dataclass(frozen=True)
class Device:
    torch_device: torch.device
    dtype: str  # of the matrix products, "bfloat16" or "float32"
    name: str
    threads: int  # of the CPU
    peak_flops: float | None  # a second, dense bfloat16 with fp32 sums; None: the card is not in plan.py's table

    @property
    def cuda(self):
        return self.torch_device.type == "cuda"

    def precision(self):
        """The autocast of a forward pass, a context manager."""
        return torch.autocast(self.torch_device.type, torch.bfloat16) if self.dtype == "bfloat16" else nullcontext()

    def rng_state(self):
        """The state of torch's random generators: {"cpu": ..., "cuda": ... or None}."""
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(self.torch_device) if self.cuda else None}

    def set_rng_state(self, state):
        torch.set_rng_state(state["cpu"])
        if self.cuda and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self.torch_device)

    def memory_gb(self):
        """Peak memory so far: of the GPU's tensors, or of the process on a CPU; None where the system does not say."""
        if self.cuda:
            return torch.cuda.max_memory_allocated(self.torch_device) / 1e9
        with contextlib.suppress(ImportError):  # Windows has no resource
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        return None

    @functools.cached_property
    def _has_nvml(self):
        return self.cuda and importlib.util.find_spec("pynvml") is not None

    def watts(self):
        """Power that the GPU draws now; None where NVML does not answer."""
        if self._has_nvml:
            with contextlib.suppress(Exception):  # a driver's or container's error must not end a run for a number in its log
                return torch.cuda.power_draw(self.torch_device) / 1000
        return None


def prepare_device(cfg):
    """The device that the settings name, with torch set up for it. UserError where the machine has no such device."""
    try:
        torch_device = torch.device(cfg.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(f"device={cfg.device} is not known to torch: cpu, cuda or cuda:1 would be right") from error
    cuda = torch_device.type == "cuda"
    if torch_device.type not in ("cpu", "cuda"):
        raise UserError(f"device={cfg.device} is not supported for training: cpu, cuda or cuda:1 would be right")
    if cuda and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no GPU: install a CUDA build of torch, or leave device out")
    if cfg.cpu_threads:
        torch.set_num_threads(cfg.cpu_threads)
    cpu = torch.cpu.get_capabilities()
    has_bf16 = cuda or cpu.get("amx_bf16", False)  # AMX makes bfloat16 1.6x as fast as float32, AVX-512 alone 0.6x
    if cfg.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it, and reads it at its first use
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that writes all memory twice
    if cuda:
        torch.set_float32_matmul_precision("high")  # TF32 for products that are not bfloat16
        if cfg.gpu_memory_gb is not None:
            total = torch.cuda.get_device_properties(torch_device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, cfg.gpu_memory_gb * 2**30 / total), torch_device)
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name(torch_device) if cuda else f"{cpu.get('cpu_name', platform.machine())}, {threads} threads"
    card = card_named(name) if cuda else None
    dtype = cfg.dtype or ("bfloat16" if has_bf16 else "float32")
    return Device(torch_device, dtype, name, threads, card.tflops * 1e12 if card else None)


# ---- compiling -------------------------------------------------------------------------------------------------------


def gradients(model, tokens_BT, targets_BT, device, z_loss):
    """(mean loss, [gradient of each parameter]) of one micro-batch; leaves no gradient in the model."""
    with device.precision():
        loss, _ = model.objective(tokens_BT, targets_BT, z_loss)
    (loss / targets_BT.numel()).backward()
    grads = [p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return loss.item() / targets_BT.numel(), grads


def relative_difference(grads, others):
    """|a - b| / |a| over the gradients of all parameters together."""
    squares = sum((a - b).square().sum() for a, b in zip(grads, others, strict=True)) / sum(a.square().sum() for a in grads)
    return squares.sqrt().item()


def compile_checked(model, tokens_BT, targets_BT, device, z_loss=0.0):
    """
    Compiles the decoder and the loss, and compares them with the plain model on this micro-batch.

    Returns None, or the reason why the model stays uncompiled. Allowed in bfloat16, which keeps 8 bits: 2 % in the loss, 10 % in
    the gradients (1 % was seen on a CPU); a tenth of that in TF32, a hundredth in fp32.
    """
    if device.cuda and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    checkpointing = model.model.checkpointing
    tolerance = 1.0 if device.dtype == "bfloat16" else 0.1 if device.cuda else 0.01
    phase = "trying the plain model"
    try:
        model.model.checkpointing = True  # without it the plain activations of a full micro-batch may not fit
        plain_loss, plain_grads = gradients(model, tokens_BT, targets_BT, device, z_loss)
        model.model.checkpointing, phase = checkpointing, "compiling"
        # for the backward pass, keep the results of matrix products and attention and recompute the rest, fused into the
        # kernels that read it: see dev/LOG.md for the memory it saves
        torch._functorch.config.aggressive_recomputation = True
        # one graph a shape: guessing which sizes may vary makes slower kernels
        model.model.compile(dynamic=False)
        ops.kernel["compiled"] = torch.compile(ops.loss_and_gradient, dynamic=False)
        loss, grads = gradients(model, tokens_BT, targets_BT, device, z_loss)
        grads_apart, loss_apart = relative_difference(plain_grads, grads), abs(loss - plain_loss) / abs(plain_loss)
        if device.cuda:
            torch.cuda.empty_cache()  # the run's peak memory must not count the check's
            torch.cuda.reset_peak_memory_stats(device.torch_device)
        if grads_apart <= 0.1 * tolerance and loss_apart <= 0.02 * tolerance:  # false for NaN
            return None
        reason = f"compiled and plain differ: loss {loss:.5f} and {plain_loss:.5f}, gradients by {grads_apart:.2%}"
    except Exception as error:  # a compiler may raise anything, and the plain model trains without it
        reason = f"{phase} failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    model.model.checkpointing = checkpointing
    model.zero_grad(set_to_none=True)
    uncompile(model)
    return reason


def uncompile(model):
    """Makes the model and the loss plain again."""
    model.model._compiled_call_impl = None
    ops.kernel.pop("compiled", None)
    torch._dynamo.reset()
