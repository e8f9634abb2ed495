set -eu
printf 'def test_x(tmp_path):\n    (tmp_path / "a").write_text("b")\n' > test_x.py
"$PYTHON" -P -m pytest -q -p no:cacheprovider test_x.py
