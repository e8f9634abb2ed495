set -eu
touch m
chmod 755 m
test -x m
mkdir q
chmod 700 q
ln m n
ln -s m o
cp -p m r
install -m 644 m s
mv s t
touch -d '2001-01-01' t
