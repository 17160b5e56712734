"""
RMSNorm and rotary positions as functions with gradients of their own, in fewer passes over memory than autograd makes of their
formulas. For where nothing is compiled; a compiler fuses the formulas in model.py by itself.

Shapes: D width of what is normalised; B sequences, T positions, H heads, K size of a head.
"""

import torch
from torch.autograd.function import once_differentiable


class Normalize(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in fp32, given back in x's dtype."""

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
    """model.rotate: its gradient is turned back by the same angle."""

    @staticmethod
    def forward(ctx, x_BTHK, cos_TK2, sin_TK2):
        ctx.save_for_backward(cos_TK2, sin_TK2)
        return turn(x_BTHK, cos_TK2, sin_TK2, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_BTHK):
        return turn(grad_BTHK, *ctx.saved_tensors, -1), None, None


def turn(x_BTHK, cos_TK2, sin_TK2, way):
    (left, right), cos, sin = x_BTHK.float().chunk(2, dim=-1), cos_TK2[:, None], sin_TK2[:, None]
    turned = torch.empty_like(x_BTHK, dtype=torch.float32, memory_format=torch.contiguous_format)
    new_left, new_right = turned.chunk(2, dim=-1)
    torch.mul(left, cos, out=new_left).addcmul_(right, sin, value=-way)
    torch.mul(right, cos, out=new_right).addcmul_(left, sin, value=way)
    return turned.type_as(x_BTHK)
