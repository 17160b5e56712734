"""
The reference run: 124.3 M parameters, 2.0 B tokens, one 12 GB card.   python train.py configs/125m.py

It trains on a corpus of about 2 B tokens, the data engine's run in data/corpus_2b or in --data=. On an RTX 3080 Ti it should
take 14 hours and 8 GB, uncompiled 10 GB (calculated; `--plan` prints it for other cards). With less memory halve micro_batch,
which changes the result by rounding alone, or set grad_checkpointing = True.
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
ckpt_minutes = 30  # comes before ckpt_every, since a step takes 13 s: a kill costs at most half an hour
keep_last = 3  # of 1.5 GB each
keep_every = 1000

# nas = "smb://user@nas/backup/phoenix/125m"  # a verified copy in the background; the password in PHOENIX_NAS_PASSWORD
# optimizer = "muon"  # fewer bits per byte for the same tokens in the trials of dev/LOG.md
# schedule = "wsd"  # the run may get more steps until the decay begins
