PY := .venv/bin/python
# (run, up, down, test … are filled in below)
