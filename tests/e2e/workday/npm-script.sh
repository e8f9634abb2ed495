# needs: npm
set -eu
cat > package.json <<'EOF'
{"name": "a", "version": "1.0.0", "scripts": {"build": "echo built > out"}}
EOF
npm run -s build
grep -qx built out
npm pack -s >/dev/null
