"""
The model: a decoder of Llama's shape, so that one weight file works in Phoenix, transformers and GGUF.

RMSNorm before attention and MLP, half-split rotary positions, SwiGLU, no biases, head tied to the embedding. Weight names and
logits equal those of transformers' LlamaForCausalLM (Qwen3ForCausalLM with qk_norm): tests/test_model.py.

    model = Phoenix(ModelConfig())                       # 124.3 M parameters
    loss = model.loss(tokens_BT, targets_BT)             # chunked: the logits of a whole batch never exist
    model, saved = from_checkpoint("out/quickstart/ckpt.pt")
    model.generate(tokens_BT, 100, temperature=0.8, top_k=50)

Shapes: B sequences, T positions, D d_model, H heads, K size of a head, F d_ff, V vocabulary, N = B*T positions, L layers.
"""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint as recomputed

from phoenix.checkpoint import load_checkpoint
from phoenix.config import UserError, one_line
from phoenix.ops import IGNORED, ChunkedCrossEntropy, Normalize, Rotate, cross_entropy_of_each
from phoenix.sampling import stream


@dataclass(frozen=True)
class ModelConfig:
    vocab_size: int = 32768
    n_layer: int = 12
    n_head: int = 12
    d_model: int = 768
    d_ff: int = 2560
    context: int = 1024  # positions that the model was trained on
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    qk_norm: bool = False  # RMSNorm of each head's queries and keys, as Qwen3

    def __post_init__(self):
        if min(self.vocab_size, self.n_layer, self.n_head, self.d_model, self.d_ff, self.context) < 1:
            raise UserError(f"every size of the model must be at least 1: {self}")
        if self.d_model % (2 * self.n_head):
            raise UserError(f"d_model={self.d_model} must be a multiple of 2*n_head={2 * self.n_head}, for rotary pairs")


# ---- the layers, named as in transformers ----------------------------------------------------------------------------


def rotary(cfg):
    """cos and sin of every position and frequency, each (context, K/2), fp32."""
    K = cfg.d_model // cfg.n_head
    frequency_K2 = cfg.rope_theta ** (-torch.arange(0, K, 2, dtype=torch.float32) / K)
    angle_TK2 = torch.arange(cfg.context, dtype=torch.float32)[:, None] * frequency_K2
    return angle_TK2.cos(), angle_TK2.sin()


def rotate(x_BTHK, cos_TK2, sin_TK2):
    """Rotates the pairs (i, i + K/2) by their position's angle: Llama's half-split layout, not the paper's interleaved one."""
    if not torch.compiler.is_compiling():
        return Rotate.apply(x_BTHK, cos_TK2, sin_TK2)
    (left, right), cos, sin = x_BTHK.float().chunk(2, dim=-1), cos_TK2[:, None], sin_TK2[:, None]
    rotated = torch.addcmul(left * cos, right, sin, value=-1), torch.addcmul(right * cos, left, sin)
    return torch.cat(rotated, dim=-1).type_as(x_BTHK)


class RMSNorm(nn.RMSNorm):
    """Computes in fp32 and returns the dtype of its input: the residual stream may be bfloat16."""

    def forward(self, x):
        if not torch.compiler.is_compiling():
            return Normalize.apply(x, self.weight, self.eps)
        return F.rms_norm(x.float(), self.normalized_shape, self.weight, self.eps).type_as(x)


class Attention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.n_head = cfg.n_head
        self.q_proj = nn.Linear(cfg.d_model, cfg.d_model, bias=False)
        self.k_proj = nn.Linear(cfg.d_model, cfg.d_model, bias=False)
        self.v_proj = nn.Linear(cfg.d_model, cfg.d_model, bias=False)
        self.o_proj = nn.Linear(cfg.d_model, cfg.d_model, bias=False)
        if cfg.qk_norm:
            self.q_norm = RMSNorm(cfg.d_model // cfg.n_head, eps=cfg.norm_eps)
            self.k_norm = RMSNorm(cfg.d_model // cfg.n_head, eps=cfg.norm_eps)

    def forward(self, x_BTD, cos_TK2, sin_TK2, seen=0, kv=None):
        """`kv` (2, B, H, context, K) is the cache of keys and values; `seen` of its positions were filled before this call."""
        B, T, D = x_BTD.shape
        q, k, v = (p(x_BTD).view(B, T, self.n_head, -1) for p in (self.q_proj, self.k_proj, self.v_proj))
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, cos_TK2, sin_TK2), rotate(k, cos_TK2, sin_TK2)
        q, k, v = (x_BTHK.transpose(1, 2) for x_BTHK in (q, k, v))
        if kv is not None:
            kv[0, :, :, seen : seen + T], kv[1, :, :, seen : seen + T] = k, v
            k, v = kv[:, :, :, : seen + T]
        y_BHTK = F.scaled_dot_product_attention(q, k, v, is_causal=seen == 0)  # one new position attends to all before it
        return self.o_proj(y_BHTK.transpose(1, 2).reshape(B, T, D))


class MLP(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.gate_proj = nn.Linear(cfg.d_model, cfg.d_ff, bias=False)
        self.up_proj = nn.Linear(cfg.d_model, cfg.d_ff, bias=False)
        self.down_proj = nn.Linear(cfg.d_ff, cfg.d_model, bias=False)

    def forward(self, x_BTD):
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class Layer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.input_layernorm = RMSNorm(cfg.d_model, eps=cfg.norm_eps)
        self.self_attn = Attention(cfg)
        self.post_attention_layernorm = RMSNorm(cfg.d_model, eps=cfg.norm_eps)
        self.mlp = MLP(cfg)

    def forward(self, x_BTD, cos_TK2, sin_TK2, seen=0, kv=None):
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), cos_TK2, sin_TK2, seen, kv)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Decoder(nn.Module):
    """Token ids (B, T) -> hidden states (B, T, D) after the last norm."""

    def __init__(self, cfg):
        super().__init__()
        self.checkpointing = False  # recompute each layer in the backward pass: 1/10 of the memory, 27 % more work
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.d_model)
        self.layers = nn.ModuleList(Layer(cfg) for _ in range(cfg.n_layer))
        self.norm = RMSNorm(cfg.d_model, eps=cfg.norm_eps)
        cos_TK2, sin_TK2 = rotary(cfg)
        self.register_buffer("cos_TK2", cos_TK2, persistent=False)
        self.register_buffer("sin_TK2", sin_TK2, persistent=False)

    def forward(self, tokens_BT, seen=0, kv_L=None):
        T = tokens_BT.shape[1]
        assert seen + T <= len(self.cos_TK2), f"{seen + T} positions, the context is {len(self.cos_TK2)}"
        assert seen == 0 or T == 1, "a filled cache takes one position at a time: there is no mask for more"
        cos_TK2, sin_TK2 = self.cos_TK2[seen : seen + T], self.sin_TK2[seen : seen + T]
        x_BTD, kind = self.embed_tokens(tokens_BT), tokens_BT.device.type
        if torch.is_autocast_enabled(kind):  # an fp32 stream would take a tenth more memory and make the norms twice as slow
            x_BTD = x_BTD.to(torch.get_autocast_dtype(kind))
        for i, layer in enumerate(self.layers):
            if self.checkpointing and torch.is_grad_enabled():
                x_BTD = recomputed(layer, x_BTD, cos_TK2, sin_TK2, use_reentrant=False)
            else:
                x_BTD = layer(x_BTD, cos_TK2, sin_TK2, seen, None if kv_L is None else kv_L[i])
        return self.norm(x_BTD)


# ---- the model -------------------------------------------------------------------------------------------------------


class Phoenix(nn.Module):
    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.cfg = cfg
        self.model = Decoder(cfg)  # the head is model.embed_tokens.weight
        residual_std = 0.02 / math.sqrt(2 * cfg.n_layer)  # 2 L additions: keeps the residual stream's variance (GPT-2)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, 0.0, residual_std if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02)

    def parameter_count(self):
        return sum(p.numel() for p in self.parameters())

    def flops_per_token(self):
        """FLOP of a training step: 6 a parameter + 12 L D T for attention, without halving it for causality (PaLM's convention)."""
        return 6 * self.parameter_count() + 12 * self.cfg.n_layer * self.cfg.d_model * self.cfg.context

    def hidden(self, tokens_BT):
        """Hidden states (B, T, D) after the last norm; logits are `hidden @ model.embed_tokens.weight.T`."""
        return self.model(tokens_BT)

    def forward(self, tokens_BT):
        return F.linear(self.model(tokens_BT), self.model.embed_tokens.weight)

    def loss(self, tokens_BT, targets_BT, reduction="mean"):
        """
        Cross-entropy in nats; targets of -100 do not count.

        reduction: "mean" of the counted targets, their "sum", or "none" for each target's nats (B, T), without a gradient.
        """
        if reduction != "none" and torch.is_grad_enabled():
            total, _ = self.objective(tokens_BT, targets_BT)
        else:
            with torch.no_grad():
                h_ND, weight_VD, dtype = self._head(tokens_BT)
                with torch.autocast(h_ND.device.type, enabled=False):  # the chunks name their dtypes themselves
                    nats_N = cross_entropy_of_each(h_ND, weight_VD, targets_BT.flatten(), dtype)
            if reduction == "none":
                return nats_N.view_as(targets_BT)
            total = nats_N.sum()
        return total if reduction == "sum" else total / (targets_BT != IGNORED).sum()

    def objective(self, tokens_BT, targets_BT, z_loss=0.0):
        """(the training loss, cross-entropy + z_loss * log(Z)^2; the cross-entropy alone), both sums over the targets."""
        h_ND, weight_VD, dtype = self._head(tokens_BT)
        with torch.autocast(h_ND.device.type, enabled=False):
            return ChunkedCrossEntropy.apply(h_ND, weight_VD, targets_BT.flatten(), dtype, z_loss)

    def _head(self, tokens_BT):
        """Hidden states (N, D), the head's weight (V, D) and the dtype of their product."""
        h_ND, kind = self.model(tokens_BT).flatten(0, 1), tokens_BT.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else h_ND.dtype
        return h_ND, self.model.embed_tokens.weight, dtype

    def read(self, new_BT, cache=None):
        """(logits (B, V) in fp32 after the last of the new tokens, the cache with them); a cache of None begins anew."""
        cfg, weight_VD = self.cfg, self.model.embed_tokens.weight
        if cache is None:
            size = (cfg.n_layer, 2, len(new_BT), cfg.n_head, cfg.context, cfg.d_model // cfg.n_head)
            cache = torch.empty(size, dtype=weight_VD.dtype, device=weight_VD.device), 0
        kv_L, seen = cache
        h_BTD = self.model(new_BT, seen, kv_L)
        return F.linear(h_BTD[:, -1], weight_VD).float(), (kv_L, seen + new_BT.shape[1])

    def generate(self, tokens_BT, max_new_tokens, **settings):
        """
        tokens (B, T) -> (B, T + max_new_tokens), T >= 1; settings: temperature, top_k, top_p and generator, of sampling.draw.

        When the context is full, its newer half is read again as the start of a new cache: sampling.stream.
        """
        new = itertools.islice(stream(self.read, self.cfg.context, tokens_BT, **settings), max_new_tokens)
        return torch.cat([tokens_BT, *(new_B1 for new_B1, _ in new)], dim=1)


def from_checkpoint(path, map_location="cpu", sha256=None):
    """
    (model with the checkpoint's weights, in eval mode; the checkpoint, a dict). UserError where it is not a whole one, or has
    another sha256.
    """
    saved = load_checkpoint(path, map_location, sha256)
    lacks = {"model", "model_config", "settings", "step", "tokens", "tokenizer_sha256"} - saved.keys()
    if lacks:
        raise UserError(f"checkpoint {path} lacks {', '.join(sorted(lacks))}")
    try:
        with torch.device(map_location):
            model = Phoenix(ModelConfig(**saved["model_config"]))
        model.load_state_dict(saved["model"])
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError lists the weights over several lines
        reason = f"{type(error).__name__}: {one_line(error, 200)}"
        raise UserError(f"checkpoint {path} does not hold a whole model: {reason}") from error
    return model.eval(), saved
