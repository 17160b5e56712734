"""
The reference run: 124.3 M parameters, 2.0 B tokens, one 12 GB card.   python train.py configs/125m.py

The corpus is a run of the data engine of about 2 B tokens, in data/corpus_2b or where --data= says. At 40 thousand tokens/s, half
of an RTX 3080 Ti's bf16 peak, it takes 14 hours. It should need about 10 GB (calculated: 2.2 for weights, gradients and moments,
the rest activations); with less, halve micro_batch (the result stays the same but for rounding) or set grad_checkpointing = True.
"""

data = "data/corpus_2b"
out = "out/125m"

n_layer = 12
n_head = 12
d_model = 768
d_ff = 2560
vocab_size = 32768
seq_len = 1024

micro_batch = 16
tokens_per_step = 524_288  # 32 micro-batches of 16 x 1024
steps = 3815  # 2.0 B tokens

lr = 6e-4  # GPT-3's for this size
min_lr = 6e-5
warmup = 256  # 134 M tokens, 7 % of the run
weight_decay = 0.1
beta1, beta2 = 0.9, 0.95
clip = 1.0

eval_every = 250
eval_tokens = 1_048_576
ckpt_every = 1000
ckpt_minutes = 30  # a step takes 13 s, so this comes first: a kill costs at most half an hour
