set -eu
mkdir -p d/e
echo x > d/e/f
tar czf d.tgz d
rm -r d
tar xzf d.tgz
grep -qx x d/e/f
