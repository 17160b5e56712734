"""
A model under transformers' names: Phoenix as Llama (Qwen3 with qk_norm), its config, and folders that transformers loads.

    model = as_transformers(phoenix)                    # LlamaForCausalLM with the same weights
    model, tokenizer, unused = load_folder(folder)      # a folder of transformers; none of its code is run

A Phoenix is whatever has `.cfg` (model.ModelConfig) and `.state_dict()`; parameter names are transformers' own.
"""

import sys

import torch

from phoenix.config import UserError, one_line


def hf_classes(qk_norm, format):
    """(config class, model class)"""
    import transformers

    from phoenix import modeling_phoenix

    if format == "phoenix":
        name, module = "PhoenixQKNorm" if qk_norm else "Phoenix", modeling_phoenix
    else:
        name, module = "Qwen3" if qk_norm else "Llama", transformers
    return getattr(module, name + "Config"), getattr(module, name + "ForCausalLM")


def hf_config(cfg, format="llama", eot=None):
    """model.ModelConfig -> transformers' config of the same architecture; `eot` is the id of <|endoftext|>."""
    config_class, model_class = hf_classes(cfg.qk_norm, format)
    config = config_class(
        vocab_size=cfg.vocab_size,
        hidden_size=cfg.d_model,
        intermediate_size=cfg.d_ff,
        num_hidden_layers=cfg.n_layer,
        num_attention_heads=cfg.n_head,
        num_key_value_heads=cfg.n_head,
        head_dim=cfg.d_model // cfg.n_head,
        max_position_embeddings=cfg.context,
        rms_norm_eps=cfg.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": cfg.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=eot,
        eos_token_id=eot,
        pad_token_id=eot,
        dtype="float32",
        architectures=[model_class.__name__],
    )
    if format == "phoenix":  # the module's name in an export, which holds the file at its top
        names = {"AutoConfig": config_class, "AutoModelForCausalLM": model_class}
        config.auto_map = {auto: f"modeling_phoenix.{c.__name__}" for auto, c in names.items()}
    return config


def as_transformers(phoenix):
    """LlamaForCausalLM (Qwen3ForCausalLM with qk_norm) with a copy of the weights, on the CPU, in eval mode."""
    _, model_class = hf_classes(phoenix.cfg.qk_norm, "llama")
    model = model_class(hf_config(phoenix.cfg))
    missing, unexpected = model.load_state_dict(phoenix.state_dict(), strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)  # the head is the embedding
    model.tie_weights()
    return model.eval()


def load_folder(path):
    """
    (model in fp32, tokenizer, names of weights that its config.json has no place for) of a folder of transformers.

    No code in the folder is run; the classes of Phoenix's exports are known here. UserError where it cannot be loaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if not (path / "config.json").is_file():
        raise UserError(f"{path} is a folder without config.json: give a checkpoint (ckpt.pt) or a folder of transformers")
    for qk_norm in (False, True):
        config_class, model_class = hf_classes(qk_norm, "phoenix")
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModelForCausalLM.register(config_class, model_class, exist_ok=True)
    try:
        closed = {"trust_remote_code": False, "local_files_only": True}
        model, report = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, output_loading_info=True, **closed)
        tokenizer = AutoTokenizer.from_pretrained(path, **closed)
    except Exception as error:  # damaged files make transformers and tokenizers raise what they like
        reason = f"{type(error).__name__}: {one_line(error, 300)}"
        raise UserError(f"{path} cannot be loaded by transformers: {reason}") from error
    if report["missing_keys"]:  # transformers only warns, and draws them at random
        raise UserError(f"{path} lacks weights that its config.json asks for: {', '.join(sorted(report['missing_keys'])[:3])}")
    unused = sorted(report["unexpected_keys"])
    if unused:
        print(f"warning: {path}: config.json has no place for {len(unused)} weights, such as {unused[0]}", file=sys.stderr)
    last, size = max(tokenizer.get_vocab().values(), default=-1), model.get_input_embeddings().weight.shape[0]
    if last >= size:
        sizes = f"a token with the id {last:,}, the model knows {size:,} tokens"
        raise UserError(f"the tokenizer in {path} has {sizes}: not its tokenizer")
    if len(set(tokenizer("The quick brown fox jumps over 13 lazy dogs.", add_special_tokens=False)["input_ids"])) < 2:
        raise UserError(f"the tokenizer in {path} knows no text: its files (tokenizer.json or a vocabulary) are missing or empty")
    return model.eval(), tokenizer, unused


def context_of(cfg, tokenizer):
    """Tokens that a model reads at most: in its config, then in its tokenizer's, as the harness looks for it."""
    lengths = [getattr(cfg, name, None) for name in ("n_positions", "max_position_embeddings", "n_ctx")]
    lengths += [tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None, 2048]  # 10^30 stands for none
    return int(next(length for length in lengths if length is not None))
