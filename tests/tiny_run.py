"""Miniatures for the tests of scoring and export: a run (tokenizer, shards, checkpoint) and models of transformers, in a second."""

import dataclasses
import json

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from model import ModelConfig, Phoenix
from phoenix import shards
from phoenix.checkpoint import FORMAT, FORMAT_VERSION
from phoenix.files import sha256_file

TEXT = """A man is sitting on a roof. He starts pulling up roofing on a roof. The question is which answer comes next: Question,
Answer. Sarah was a much better surgeon than Maria so Sarah always got the easier cases, and she told him to wait here. def f(x):
    return x + 1  # naïve café, 東京, 12345.678
"""
SPECIAL = ["<|endoftext|>", "<|reserved_0|>"]
SIZES = {  # of tiny models of transformers, for the tokenizer of make_run
    "vocab_size": 320,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "bos_token_id": 0,
}

LLAMAS = {"intermediate_size": 24, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 192}


def make_run(folder, qk_norm=False, context=48, vocab_size=320, std=0.3):
    """`folder` with data/ (shards, tokenizer) and run/ (ckpt.pt, tokenizer) -> the path of ckpt.pt; random, large weights."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    assert tokenizer.get_vocab_size() == vocab_size
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[0], "eos_token": SPECIAL[0]}
    for copy in (folder / "data" / "tokenizer", folder / "run" / "tokenizer"):
        copy.mkdir(parents=True)
        tokenizer.save(str(copy / "tokenizer.json"))
        (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer_sha256 = sha256_file(folder / "data" / "tokenizer" / "tokenizer.json")

    tokens = np.array([*tokenizer.encode(TEXT).ids, 0] * 3, np.uint16)
    described = {}
    for split, parts in (("train", [tokens]), ("val", np.array_split(tokens, 2))):
        described[split] = []
        for i, part in enumerate(parts):
            file = folder / "data" / "shards" / f"{split}-{i:05d}.bin"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(part.astype("<u2").tobytes())
            described[split].append({"file": file.name, "tokens": len(part), "sha256": sha256_file(file)})
    meta = {"format": shards.FORMAT, "version": shards.FORMAT_VERSION, "dtype": "<u2", "vocab_size": vocab_size, "eot": 0}
    meta |= {"tokenizer_sha256": tokenizer_sha256, "tokens": dict.fromkeys(described, len(tokens)), "shards": described}
    (folder / "data" / "shards" / "shards.json").write_text(json.dumps(meta))

    cfg = ModelConfig(vocab_size, n_layer=2, n_head=2, d_model=32, d_ff=48, context=context, rope_theta=500.0, qk_norm=qk_norm)
    torch.manual_seed(1)
    model = Phoenix(cfg)
    with torch.no_grad():  # so that every part counts: at the initial scale attention hardly matters
        for p in model.parameters():
            p.copy_(torch.rand_like(p) + 0.5 if p.dim() == 1 else torch.randn_like(p) * std)
    state = {"format": FORMAT, "version": FORMAT_VERSION, "model": model.state_dict(), "model_config": dataclasses.asdict(cfg)}
    state |= {"settings": {"data": str(folder / "data")}, "step": 7, "tokens": 1234, "tokenizer_sha256": tokenizer_sha256}
    torch.save(state, folder / "run" / "ckpt.pt")
    return folder / "run" / "ckpt.pt"


def random_model(kind, sizes):
    """A causal model of transformers of this kind (Qwen2, GPT2, ...), with random weights large enough to matter."""
    import transformers  # seconds of import, for those who want it

    torch.manual_seed(0)
    config = getattr(transformers, "Llama4TextConfig" if kind == "Llama4" else f"{kind}Config")(**SIZES | sizes)
    model = getattr(transformers, "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4)
    return model
