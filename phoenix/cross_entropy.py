"""
Cross-entropy a few rows at a time: the logits of a whole batch never exist.

16 x 1024 targets of a vocabulary of 32,768 have 2.1 GB of fp32 logits, and F.cross_entropy wants them twice; here a chunk of them
lives for as long as its loss and its gradient are made. Equal to F.cross_entropy in value and gradient: tests/test_model.py.

Shapes: N targets, D width of the hidden states, V vocabulary.
"""

import torch
import torch.nn.functional as F

IGNORED = -100  # a target that is not scored; F.cross_entropy's value
CHUNK_LOGITS = {"cpu": 2**21, "cuda": 2**25}  # logits that exist at a time: 8 MB stay in a cache, 128 MB fill a GPU


def chunk_rows(weight_VD):
    return max(1, CHUNK_LOGITS.get(weight_VD.device.type, 2**25) // len(weight_VD))


def nats(logp_NV, targets_N):
    """-log p of each target; 0 where the target is IGNORED."""
    return -logp_NV.gather(-1, targets_N.clamp(min=0)[:, None]).squeeze(-1).masked_fill(targets_N == IGNORED, 0.0)


@torch.no_grad()
def nats_of_each(h_ND, weight_VD, targets_N, dtype):
    """Nats of each target (N,), for scoring: no gradient."""
    w_DV, rows = weight_VD.to(dtype).T, chunk_rows(weight_VD)
    chunks = zip(h_ND.split(rows), targets_N.split(rows), strict=True)
    return torch.cat([nats(F.log_softmax(h.to(dtype) @ w_DV, -1, dtype=torch.float32), t) for h, t in chunks])


def loss_and_gradient(logits_NV, targets_N, z_loss):
    """
    logits, which are overwritten -> (sum of nats, sum of z_loss * log(Z)^2, the gradient of both with respect to the logits, in
    the logits' dtype). The gradient's rows of IGNORED targets are not zero: who multiplies with them leaves them out, which is
    V/D times cheaper.

    log(Z)^2 keeps the softmax' normaliser near 1, so that logits do not drift in bfloat16 (PaLM, 2022, which takes 1e-4).
    """
    counted_N, at_N1 = targets_N != IGNORED, targets_N.clamp(min=0)[:, None]
    if torch.compiler.is_compiling():  # one kernel: the comparison costs nothing where a scatter would cut it in three
        logp_NV = F.log_softmax(logits_NV, dim=-1, dtype=torch.float32)
        nats_N, p_NV = nats(logp_NV, targets_N), logp_NV.exp()
        log_z_N = logits_NV[:, 0].float() - logp_NV[:, 0]
        p_NV = p_NV * (1 + 2 * z_loss * log_z_N)[:, None] if z_loss else p_NV
        grad_NV = p_NV - (torch.arange(p_NV.shape[1], device=p_NV.device) == at_N1).float()
    else:  # in the logits' own memory, and one exponential for each, where log_softmax and exp take two
        p_NV = logits_NV.float()
        top_N1, hit_N1 = p_NV.amax(-1, keepdim=True), p_NV.gather(-1, at_N1)
        sum_N1 = p_NV.sub_(top_N1).exp_().sum(-1, keepdim=True)
        log_z_N = (sum_N1.log() + top_N1).squeeze(-1)
        nats_N = (log_z_N - hit_N1.squeeze(-1)).masked_fill(~counted_N, 0.0)
        grad_NV = p_NV.mul_((1 + 2 * z_loss * log_z_N)[:, None] / sum_N1)  # d(nats)/d(logits) = softmax - one_hot(target)
        grad_NV[torch.arange(len(targets_N), device=grad_NV.device), at_N1.squeeze(-1)] -= 1.0
    z = (z_loss * log_z_N.square() * counted_N).sum() if z_loss else torch.zeros((), device=logits_NV.device)
    return nats_N.sum(), z, grad_NV.to(logits_NV.dtype)


kernel = {"eager": loss_and_gradient}  # "compiled" beside it once machine.compile_checked has asked for it


class ChunkedCrossEntropy(torch.autograd.Function):
    """
    (what is minimised, its cross-entropy alone), both sums over the targets, of softmax(h @ weight.T). The gradients are made on
    the way, while a chunk's logits exist: nothing is computed twice, and what is kept for the backward pass is h's gradient and
    the weight's. Only the first is differentiable; the second is for the log, where runs with and without z-loss compare.
    """

    @staticmethod
    def forward(ctx, h_ND, weight_VD, targets_N, dtype, z_loss):
        w_VD = weight_VD.to(dtype)
        total, extra = torch.zeros(2, device=h_ND.device).unbind()
        grad_h_ND, grad_w_VD = torch.empty_like(h_ND), torch.zeros_like(weight_VD)
        rows, work = chunk_rows(weight_VD), kernel.get("compiled", loss_and_gradient)
        for h, targets, grad_h in zip(h_ND.split(rows), targets_N.split(rows), grad_h_ND.split(rows), strict=True):
            h, ignored_N1 = h.to(dtype), (targets == IGNORED)[:, None]
            nats_sum, z_sum, grad_NV = work(h @ w_VD.T, targets, z_loss)
            total = total + nats_sum
            extra = extra + z_sum
            grad_h.copy_(grad_NV @ w_VD).masked_fill_(ignored_N1, 0.0)
            h = h.masked_fill(ignored_N1, 0.0)
            if dtype == grad_w_VD.dtype:
                grad_w_VD.addmm_(grad_NV.T, h)
            else:
                grad_w_VD += grad_NV.T @ h
        ctx.grads = grad_h_ND, grad_w_VD
        ctx.mark_non_differentiable(total)
        return total + extra, total

    @staticmethod
    def backward(ctx, grad_minimised, _):
        grad_h_ND, grad_w_VD = ctx.grads
        del ctx.grads  # scaled in place: a copy would be another 100 MB, and a second backward pass has nothing to read
        return grad_h_ND.mul_(grad_minimised), grad_w_VD.mul_(grad_minimised), None, None, None
