"""
Does with an export what users of transformers do, in a fresh process that does not see this checkout:

    python -P tests/hf_behaviour.py FOLDER SCRATCH     -> one line of JSON; Trainer only where accelerate is installed

It asserts without pytest, so that it runs in any venv, under any version of transformers.
"""

import importlib.util
import json
import sys

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, pipeline

folder, scratch = sys.argv[1:]
torch.set_num_threads(1)
trust = {"trust_remote_code": True}
config = AutoConfig.from_pretrained(folder, **trust)
model = AutoModelForCausalLM.from_pretrained(folder, **trust).eval()
tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
assert type(config).__module__.startswith("transformers_modules."), "the class is not the folder's own"
assert model.dtype == torch.float32 and model.lm_head.weight is model.model.embed_tokens.weight

prompts = ["A man is", "Sarah was a much better surgeon than"]
greedy = {"max_new_tokens": 12, "do_sample": False}


def written(texts, **settings):
    tokens = tokenizer(texts, return_tensors="pt", padding=len(texts) > 1)
    return model.generate(**tokens, **greedy, **settings)[:, -12:].tolist()


alone = [written([prompt])[0] for prompt in prompts]
assert alone == [written([prompt], use_cache=False)[0] for prompt in prompts], "the KV cache changes the text"
assert written(prompts) == alone, "left padding changes the text"

one = pipeline("text-generation", folder, tokenizer=tokenizer, **trust)(prompts[0], **greedy)[0]["generated_text"]
assert one == prompts[0] + tokenizer.decode(alone[0]), one

tokens = tokenizer(prompts[1], return_tensors="pt")["input_ids"]
gradients = []
for checkpointing in (False, True):
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable()
        assert model.is_gradient_checkpointing
    model.zero_grad()
    model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    gradients.append(model.model.layers[0].mlp.up_proj.weight.grad.clone())
assert gradients[0].abs().max() > 0 and torch.allclose(*gradients, atol=1e-6), "gradient checkpointing changes the gradient"
model.gradient_checkpointing_disable()
model.eval()

with torch.no_grad():
    before = model(tokens).logits
model.save_pretrained(scratch + "/saved")
tokenizer.save_pretrained(scratch + "/saved")
again = AutoModelForCausalLM.from_pretrained(scratch + "/saved", **trust)
with torch.no_grad():
    assert torch.equal(again(tokens).logits, before), "saved and loaded, the logits are others"
assert type(again).__name__ == type(model).__name__

trained = importlib.util.find_spec("accelerate") is not None
if trained:
    rows = [{"input_ids": tokens[0], "labels": tokens[0]}]
    settings = {"per_device_train_batch_size": 1, "max_steps": 1, "learning_rate": 1e-2, "report_to": [], "save_strategy": "no"}
    arguments = TrainingArguments(scratch + "/trainer", use_cpu=True, gradient_checkpointing=True, disable_tqdm=True, **settings)
    weight = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    result = Trainer(model=model, args=arguments, train_dataset=rows).train()
    assert result.global_step == 1 and result.training_loss > 0
    assert not torch.equal(weight, model.model.layers[0].mlp.up_proj.weight), "a step of Trainer changed nothing"

found = {"transformers": transformers.__version__, "model": type(model).__name__, "trained": trained, "text": alone[0]}
print(json.dumps(found | {"logits": before[0, -1, :8].tolist()}))
