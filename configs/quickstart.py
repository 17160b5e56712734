"""
The quickstart's model: 3.3 M parameters, 0.9 M tokens.   python train.py configs/quickstart.py

It takes about 3 minutes on 2 CPU cores, without a GPU: bits per byte fall from 4 to about 2, and the text takes the shape of
documentation. The comments below give bits per byte after 0.4 M tokens of such a corpus, one run each.
"""

data = "data/quickstart"
out = "out/quickstart"

n_layer = 4
n_head = 3
d_model = 192
d_ff = 512
seq_len = 256

micro_batch = 4
tokens_per_step = 1024  # small steps learn more from few tokens: 2.63, against 2.74 with 2048
steps = 900

lr = 3e-3  # 2.62 with 2e-3, 2.63 with 4e-3, 2.99 with 8e-3
min_lr = 0.0
warmup = 90

eval_every = 150
eval_tokens = 32_768
ckpt_every = 300
