"""
The default corpus: documentation that is on every machine once the requirements are installed.

    python -m data_engine.run          no network; about 2 minutes on 2 cores; 8.8 M tokens in data/quickstart
"""

from data_engine.download import PythonDocs

out = "data/quickstart"
language = dict(xlm_roberta=None)  # fastText decides alone: the weights of XLM-RoBERTa would have to be fetched
sources = [PythonDocs("python", share=1.0)]
partition_bytes = 2_000_000
vocab_size = 8192
val_fraction = 0.02
