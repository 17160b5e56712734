# make             lint and the fast tests (under a minute once set up)
# make setup       .venv with the pinned requirements
# make quickstart  corpus, tiny model, scores and export from nothing; no network beyond pip
# make test        lint and the whole test suite
# make parity      evaluate.py against lm-evaluation-harness, all items: hours on two cores
# make peers       what some tests hold us against, in venvs of their own; else they skip (builds llama.cpp: a quarter of an hour)

PYTHON ?= python3
PY := .venv/bin/python

.PHONY: check setup quickstart test parity peers

check: .venv/ready
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	$(PY) -m pytest -m "not slow"

setup: .venv/ready

.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed, this is " + sys.version'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install -q --disable-pip-version-check -r requirements.txt
	touch .venv/ready

quickstart: .venv/ready
	$(PY) -m data_engine.run
	$(PY) train.py configs/quickstart.py
	$(MAKE) --no-print-directory out/quickstart/hf/config.json
	$(PY) dev/quickstart_summary.py

# scored and exported again only when train.py has written another checkpoint
out/quickstart/ckpt.pt:
	@test -f $@

out/quickstart/eval.json: out/quickstart/ckpt.pt
	$(PY) evaluate.py out/quickstart/ckpt.pt --tasks=bits_per_byte

out/quickstart/hf/config.json: out/quickstart/eval.json
	$(PY) export_hf.py out/quickstart/ckpt.pt --out=out/quickstart/hf

test: .venv/ready
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	$(PY) -m pytest

parity: .venv/ready out/parity_model/hf/config.json
	$(PY) benchmarks/bench_eval.py

# the quickstart's model with a context that the longest item fits
out/parity_model/hf/config.json:
	$(PY) -m data_engine.run
	$(PY) train.py configs/quickstart.py --out=out/parity_model --seq_len=1024 --micro_batch=1 --steps=400 --warmup=40 --eval_every=400
	$(PY) export_hf.py out/parity_model/ckpt.pt --out=out/parity_model/hf

peers: .venv-lm-eval/pins.txt .venv-transformers-4/pins.txt .venv-llama-cpp/pins.txt

.venv-lm-eval/pins.txt: benchmarks/peers_eval.txt
.venv-transformers-4/pins.txt: benchmarks/peers_transformers4.txt
.venv-llama-cpp/pins.txt: benchmarks/peers_llama_cpp.txt
# built, not taken from pip's cache, and not for this processor: with AMX llama.cpp's q8_0 ends with an illegal instruction (0.3.36, Xeon)
.venv-llama-cpp/pins.txt: export CMAKE_ARGS = -DGGML_NATIVE=OFF
.venv-llama-cpp/pins.txt: export PIP_NO_CACHE_DIR = 1

.venv-%/pins.txt:
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install -q --disable-pip-version-check -r $<
	cp $< $@
