set -eu
f=$(mktemp)
echo x > $f
/usr/bin/python3 -c 'import tempfile; tempfile.NamedTemporaryFile().write(b"x")'
