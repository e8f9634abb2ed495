set -eu
/usr/bin/python3 -m venv v && mkdir -p pkg && printf '[build-system]\nrequires=[]\nbuild-backend="backend"\nbackend-path=["."]\n' > pkg/pyproject.toml && cat > pkg/backend.py <<'EOF'
import zipfile, os
def build_wheel(d, *a, **k):
    n = 'tiny-1-py3-none-any.whl'
    with zipfile.ZipFile(os.path.join(d, n), 'w') as z:
        z.writestr('tiny.py', 'x = 42')
        z.writestr('tiny-1.dist-info/METADATA', 'Metadata-Version: 2.1\nName: tiny\nVersion: 1\n')
        z.writestr('tiny-1.dist-info/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
        z.writestr('tiny-1.dist-info/RECORD', '')
    return n
EOF
v/bin/pip install -q --no-index ./pkg && v/bin/python -c 'import tiny; assert tiny.x == 42'
