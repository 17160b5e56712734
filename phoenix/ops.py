"""
Operations with gradients of their own: cross-entropy in chunks, RMSNorm, rotary positions.

The logits of a whole batch never exist: 16 x 1024 targets of a vocabulary of 32,768 have 2.1 GB of fp32 logits, and
F.cross_entropy needs them twice. RMSNorm and rotary positions take fewer passes over memory than autograd does with their
formulas; a compiler fuses the formulas in model.py by itself, so these two serve uncompiled models only.

Equal to F.cross_entropy and to the formulas in value and gradient: tests/test_model.py.

Shapes: N targets, D width of the hidden states, V vocabulary; B sequences, T positions, H heads, K size of a head.
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

IGNORED = -100  # a target that is not scored; F.cross_entropy's value
CHUNK_LOGITS = {"cpu": 2**21, "cuda": 2**25}  # logits of one chunk: 8 MB stay in a cache, 128 MB fill a GPU


# ---- cross-entropy ---------------------------------------------------------------------------------------------------


def chunk_rows(weight_VD):
    """Rows of hidden states whose logits make one chunk."""
    return max(1, CHUNK_LOGITS.get(weight_VD.device.type, 2**25) // len(weight_VD))


def negative_log_likelihood(logp_NV, targets_N):
    """-log p of each target (N,); 0 where the target is IGNORED."""
    return -logp_NV.gather(-1, targets_N.clamp(min=0)[:, None]).squeeze(-1).masked_fill(targets_N == IGNORED, 0.0)


@torch.no_grad()
def cross_entropy_of_each(h_ND, weight_VD, targets_N, dtype):
    """Nats of each target (N,), for scoring: no gradient."""
    w_DV, rows = weight_VD.to(dtype).T, chunk_rows(weight_VD)
    nats = []
    for h, targets in zip(h_ND.split(rows), targets_N.split(rows), strict=True):
        logp_NV = F.log_softmax(h.to(dtype) @ w_DV, -1, dtype=torch.float32)
        nats.append(negative_log_likelihood(logp_NV, targets))
    return torch.cat(nats)


def loss_and_gradient(logits_NV, targets_N, z_loss):
    """
    logits -> (sum of nats, sum of z_loss * log(Z)^2, gradient of both with respect to the logits, in the logits' dtype).

    The logits are overwritten. The gradient's rows of IGNORED targets are not zero: the caller masks them after the product
    with the weight, which is V/D times cheaper. z_loss keeps the softmax' normaliser Z near 1, so that logits do not drift in
    bfloat16 (PaLM, 2022, which takes 1e-4).
    """
    counted_N, at_N1 = targets_N != IGNORED, targets_N.clamp(min=0)[:, None]
    if torch.compiler.is_compiling():  # one kernel: a scatter would cut it in three, the comparison with arange costs nothing
        logp_NV = F.log_softmax(logits_NV, dim=-1, dtype=torch.float32)
        nats_N, p_NV = negative_log_likelihood(logp_NV, targets_N), logp_NV.exp()
        log_z_N = logits_NV[:, 0].float() - logp_NV[:, 0]
        p_NV = p_NV * (1 + 2 * z_loss * log_z_N)[:, None] if z_loss else p_NV
        grad_NV = p_NV - (torch.arange(p_NV.shape[1], device=p_NV.device) == at_N1).float()
    else:  # in the logits' own memory, with one exponential each; log_softmax and exp take two
        p_NV = logits_NV.float()
        top_N1, target_N1 = p_NV.amax(-1, keepdim=True), p_NV.gather(-1, at_N1)
        sum_N1 = p_NV.sub_(top_N1).exp_().sum(-1, keepdim=True)
        log_z_N = (sum_N1.log() + top_N1).squeeze(-1)
        nats_N = (log_z_N - target_N1.squeeze(-1)).masked_fill(~counted_N, 0.0)
        grad_NV = p_NV.mul_((1 + 2 * z_loss * log_z_N)[:, None] / sum_N1)  # d(nats)/d(logits) = softmax - one_hot(target)
        grad_NV[torch.arange(len(targets_N), device=grad_NV.device), at_N1.squeeze(-1)] -= 1.0
    z = (z_loss * log_z_N.square() * counted_N).sum() if z_loss else torch.zeros((), device=logits_NV.device)
    return nats_N.sum(), z, grad_NV.to(logits_NV.dtype)


kernel = {"eager": loss_and_gradient}  # device.compile_checked adds "compiled"


class ChunkedCrossEntropy(torch.autograd.Function):
    """
    (loss to minimise, its cross-entropy alone) of softmax(h @ weight.T), both sums over the targets.

    The forward pass makes the gradients while a chunk's logits exist: nothing is computed twice, and the backward pass needs
    only the gradients of h and of the weight. Only the first result is differentiable; the second is for the log, where runs
    with and without z-loss compare.
    """

    @staticmethod
    def forward(ctx, h_ND, weight_VD, targets_N, dtype, z_loss):
        w_VD = weight_VD.to(dtype)
        nats, z_penalty = torch.zeros(2, device=h_ND.device).unbind()
        grad_h_ND, grad_w_VD = torch.empty_like(h_ND), torch.zeros_like(weight_VD)
        rows, chunk_loss = chunk_rows(weight_VD), kernel.get("compiled", loss_and_gradient)
        for h, targets, grad_h in zip(h_ND.split(rows), targets_N.split(rows), grad_h_ND.split(rows), strict=True):
            h, ignored_N1 = h.to(dtype), (targets == IGNORED)[:, None]
            chunk_nats, chunk_penalty, grad_NV = chunk_loss(h @ w_VD.T, targets, z_loss)
            nats = nats + chunk_nats
            z_penalty = z_penalty + chunk_penalty
            grad_h.copy_(grad_NV @ w_VD).masked_fill_(ignored_N1, 0.0)
            h = h.masked_fill(ignored_N1, 0.0)
            if dtype == grad_w_VD.dtype:
                grad_w_VD.addmm_(grad_NV.T, h)
            else:
                grad_w_VD += grad_NV.T @ h
        ctx.grads = grad_h_ND, grad_w_VD
        ctx.mark_non_differentiable(nats)
        return nats + z_penalty, nats

    @staticmethod
    def backward(ctx, grad_loss, _):
        grad_h_ND, grad_w_VD = ctx.grads
        del ctx.grads  # scaled in place: a copy would be another 100 MB, and no second backward pass may read them
        return grad_h_ND.mul_(grad_loss), grad_w_VD.mul_(grad_loss), None, None, None


# ---- RMSNorm and rotary positions ------------------------------------------------------------------------------------


class Normalize(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, computed in fp32, returned in x's dtype."""

    @staticmethod
    def forward(ctx, x, weight_D, eps):
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight_D, scale)
        return (x * scale).mul_(weight_D).type_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight_D, scale = ctx.saved_tensors
        normed, grad = x * scale, grad.float()
        products = grad * normed
        with torch.autocast(x.device.type, enabled=False):
            mean = (products @ weight_D).div_(x.shape[-1])[..., None]
        grad_x = (grad * weight_D).addcmul_(normed, mean, value=-1).mul_(scale)
        return grad_x.type_as(x), products.flatten(0, -2).sum(0), None


class Rotate(torch.autograd.Function):
    """model.rotate; the gradient is rotated back by the same angle."""

    @staticmethod
    def forward(ctx, x_BTHK, cos_TK2, sin_TK2):
        ctx.save_for_backward(cos_TK2, sin_TK2)
        return rotate_pairs(x_BTHK, cos_TK2, sin_TK2, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_BTHK):
        return rotate_pairs(grad_BTHK, *ctx.saved_tensors, -1), None, None


def rotate_pairs(x_BTHK, cos_TK2, sin_TK2, direction):
    """Rotates the pairs (i, i + K/2) of each head by their angle, or back where direction is -1."""
    (left, right), cos, sin = x_BTHK.float().chunk(2, dim=-1), cos_TK2[:, None], sin_TK2[:, None]
    rotated = torch.empty_like(x_BTHK, dtype=torch.float32, memory_format=torch.contiguous_format)
    new_left, new_right = rotated.chunk(2, dim=-1)
    torch.mul(left, cos, out=new_left).addcmul_(right, sin, value=-direction)
    torch.mul(right, cos, out=new_right).addcmul_(left, sin, value=direction)
    return rotated.type_as(x_BTHK)
