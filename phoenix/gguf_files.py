"""
The model as GGUF files, which llama.cpp, Ollama and LM Studio load: f16 and q8_0, with the tokenizer in them.

The architecture is llama.cpp's "llama" (its "qwen3" with qk_norm), the tokenizer its "gpt2" with the pre-tokenizer "gpt-2". Names
and layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Norms stay fp32; a matrix whose rows are no multiple of
q8_0's 32 stays f16.
"""

import json

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from phoenix import files
from phoenix.config import UserError

KINDS = {"f16": (Kind.F16, gguf.LlamaFileType.MOSTLY_F16), "q8_0": (Kind.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0)}
BLOCK = {  # ours -> GGUF's, of every layer
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}  # without output.weight the head is token_embd


def gguf_name(name):
    """model.layers.3.mlp.up_proj.weight -> blk.3.ffn_up.weight"""
    name = name.removesuffix(".weight")
    if name in WHOLE:
        return WHOLE[name] + ".weight"
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{BLOCK[part]}.weight"


def interleaved(weight, n_head):
    """
    Reorders a query or key matrix's rows: rotary pairs (i, i + K/2) become neighbours (2i, 2i + 1).

    llama.cpp's "llama" rotates neighbours; its "qwen3" rotates halves, as model.py does.
    """
    return weight.reshape(n_head, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def half_split(weight, n_head):
    """The inverse of `interleaved`."""
    return weight.reshape(n_head, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def is_permuted(name, cfg):
    """Whether a parameter's rows are interleaved in the file."""
    return not cfg.qk_norm and name.endswith(("q_proj.weight", "k_proj.weight"))


def kind_of(weight, kind):
    """The type that a parameter has in a file of this kind."""
    if weight.ndim == 1:
        return Kind.F32
    return kind if weight.shape[-1] % 32 == 0 or kind is not Kind.Q8_0 else Kind.F16


def vocabulary(tokenizer_json):
    """(tokens in the order of their ids, their types, merges) of a tokenizer.json; UserError where llama.cpp does not know it."""
    described = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    model, pre = described["model"], described["pre_tokenizer"] or {}
    plain = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    if model["type"] != "BPE" or described["normalizer"] or any(pre.get(key) != value for key, value in plain.items()):
        raise UserError(f"{tokenizer_json} cannot be written as GGUF: llama.cpp knows byte-level BPE with GPT-2's pre-tokenizer")
    tokens = {i: token for token, i in model["vocab"].items()}
    types = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for added in described["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return [tokens[i] for i in range(len(tokens))], [int(types[i]) for i in range(len(tokens))], merges


def write_gguf(path, phoenix, tokenizer_json, eot, name, kind):
    """One file; `kind` is a key of KINDS."""
    cfg, (quantized, file_type) = phoenix.cfg, KINDS[kind]
    tokens, types, merges = vocabulary(tokenizer_json)
    writer = gguf.GGUFWriter(path, "qwen3" if cfg.qk_norm else "llama")
    writer.add_name(name)
    writer.add_license("apache-2.0")
    writer.add_size_label(f"{phoenix.parameter_count() / 1e6:.0f}M")
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(cfg.vocab_size)
    writer.add_context_length(cfg.context)
    writer.add_embedding_length(cfg.d_model)
    writer.add_block_count(cfg.n_layer)
    writer.add_feed_forward_length(cfg.d_ff)
    writer.add_head_count(cfg.n_head)
    writer.add_head_count_kv(cfg.n_head)
    head = cfg.d_model // cfg.n_head
    for add in (writer.add_key_length, writer.add_value_length, writer.add_rope_dimension_count):
        add(head)
    writer.add_rope_freq_base(cfg.rope_theta)
    writer.add_layer_norm_rms_eps(cfg.norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
        add(eot)
    writer.add_add_bos_token(False)
    for ours, parameter in phoenix.state_dict().items():
        weight = parameter.float().numpy()
        if is_permuted(ours, cfg):
            weight = np.ascontiguousarray(interleaved(weight, cfg.n_head))
        kept = kind_of(weight, quantized)
        writer.add_tensor(gguf_name(ours), gguf.quants.quantize(weight, kept), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    files.sync(path)


def read_gguf(path, phoenix):
    """A new model like `phoenix` (a model.Phoenix) with the file's weights."""
    cfg = phoenix.cfg
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    weights = {name: tensors[gguf_name(name)] for name in phoenix.state_dict()}
    return with_weights(phoenix, {n: half_split(w, cfg.n_head) if is_permuted(n, cfg) else w for n, w in weights.items()})


def rounded(phoenix, kind):
    """A new model with the weights as a file of this kind keeps them: what reading the file must give."""
    weights = {name: p.float().numpy() for name, p in phoenix.state_dict().items()}
    kinds = {name: kind_of(w, KINDS[kind][0]) for name, w in weights.items()}
    return with_weights(
        phoenix, {n: gguf.quants.dequantize(gguf.quants.quantize(w, kinds[n]), kinds[n]) for n, w in weights.items()}
    )


def with_weights(phoenix, weights):
    model = type(phoenix)(phoenix.cfg)
    model.load_state_dict({name: torch.from_numpy(np.array(w, np.float32)) for name, w in weights.items()})
    return model.eval()


@torch.inference_mode()
def check_gguf(path, phoenix, kind, tokens_BT, most):
    """
    Largest difference of a logit between the file and fp32, to be shown.

    RuntimeError where the file differs by more than `most` from the model whose weights are rounded the same way.
    """
    logits = read_gguf(path, phoenix)(tokens_BT)
    difference = (logits - rounded(phoenix, kind)(tokens_BT)).abs().max().item()
    if not difference <= most:
        raise RuntimeError(f"{path.name} gives logits that differ by {difference:.1e}, at most {most:.0e} is allowed")
    return (logits - phoenix(tokens_BT)).abs().max().item()


def check_tokenizer(path, tokenizer, eot, texts):
    """
    RuntimeError where the file's tokenizer is not `tokenizer` (tokenizers.Tokenizer), which ends documents in `eot`.

    Tokens, types, merges and special ids are compared; a tokenizer built from the file alone must encode and decode the
    texts alike.
    """
    fields = gguf.GGUFReader(path).fields
    found = {name.removeprefix("tokenizer.ggml."): field.contents() for name, field in fields.items() if "tokenizer." in name}
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    added = tokenizer.get_added_tokens_decoder()
    kinds = {i: gguf.TokenType.CONTROL if token.special else gguf.TokenType.USER_DEFINED for i, token in added.items()}
    ids = range(tokenizer.get_vocab_size())
    want = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [tokenizer.id_to_token(i) for i in ids],
        "token_type": [int(kinds.get(i, gguf.TokenType.NORMAL)) for i in ids],
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
        **{f"{role}_token_id": eot for role in ("bos", "eos", "padding")},
        "add_bos_token": False,
    }
    if wrong := [name for name, value in want.items() if found.get(name) != value]:
        raise RuntimeError(f"the tokenizer in {path.name} is not the trained one: other {', '.join(wrong)}")
    pairs = [tuple(merge.split(" ")) for merge in found["merges"]]
    read = Tokenizer(models.BPE({token: i for i, token in enumerate(found["tokens"])}, pairs))
    read.pre_tokenizer, read.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    for i, kind in enumerate(found["token_type"]):
        if kind != gguf.TokenType.NORMAL:
            token = AddedToken(found["tokens"][i], normalized=False, special=kind == gguf.TokenType.CONTROL)
            (read.add_special_tokens if token.special else read.add_tokens)([token])
    for text in texts:
        ids, same = read.encode(text, add_special_tokens=False).ids, tokenizer.encode(text, add_special_tokens=False).ids
        if ids != same or read.decode(ids, skip_special_tokens=False) != tokenizer.decode(same, skip_special_tokens=False):
            raise RuntimeError(f"the tokenizer in {path.name} makes {ids} of {text!r}, the trained one {same}")
