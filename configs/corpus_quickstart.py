"""
The embedded default: documentation that is on every machine once the requirements are installed.

    python -m data_engine.run          no network, about 2 minutes on 2 cores; leaves data/quickstart
"""

from data_engine.download import PythonDocs

out = "data/quickstart"
language = dict(xlm_roberta=None)  # fastText alone: the other model's weights would be fetched
sources = [PythonDocs("python", share=1.0)]
partition_bytes = 2_000_000
vocab_size = 8192
val_fraction = 0.02
