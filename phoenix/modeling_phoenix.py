"""
Phoenix for transformers: export_hf.py copies this file into an export, whose config.json names it in auto_map.

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

Phoenix has Llama's architecture, with qk_norm Qwen3's, weight for weight: the classes below only give it its own name.
--format=llama exports the same weights under Llama's name, which needs no code.
"""

from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM


class PhoenixConfig(LlamaConfig):
    model_type = "phoenix"


class PhoenixForCausalLM(LlamaForCausalLM):
    config_class = PhoenixConfig


class PhoenixQKNormConfig(Qwen3Config):
    model_type = "phoenix_qk_norm"


class PhoenixQKNormForCausalLM(Qwen3ForCausalLM):
    config_class = PhoenixQKNormConfig
