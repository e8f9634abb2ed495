set -eu
cat > h <<'EOF'
$HOME `x`
EOF
grep -qF '$HOME' h
