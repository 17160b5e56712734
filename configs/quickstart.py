"""
A small model of the quickstart's corpus.   python train.py configs/quickstart.py
"""

data = "data/quickstart"
out = "out/quickstart"

n_layer = 4
n_head = 4
d_model = 256
d_ff = 704
seq_len = 256

micro_batch = 8
tokens_per_step = 2048
steps = 500

lr = 3e-3
min_lr = 0.0
warmup = 50

eval_every = 100
eval_tokens = 65_536
ckpt_every = 200
