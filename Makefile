# make demo    from nothing to a trained and evaluated Vim on miniature scenes, with pictures
# make test    every test, after setting up what they need
# make lint    ruff
# make ops     compile mmcv's ops, which Mask R-CNN needs
# make clean   remove the environment and everything that was made here
#
# Each does its own set-up in .venv. Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
RUN := .venv/bin/python

.PHONY: demo test lint ops clean

demo:
	@$(PYTHON) tools/setup_env.py demo

test:
	@$(PYTHON) tools/setup_env.py test
	$(RUN) -m pytest $(ARGS)

lint:
	@$(PYTHON) tools/setup_env.py lint
	.venv/bin/ruff check .

ops:
	@$(PYTHON) tools/setup_env.py ops

clean:
	rm -rf .venv build *.egg-info mmvim/.mim mmvim/_C*.so .pytest_cache .ruff_cache
