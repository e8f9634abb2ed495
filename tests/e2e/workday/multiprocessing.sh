# tiers: namespaces
set -eu
/usr/bin/python3 -c 'import multiprocessing as m; p = m.Pool(3); assert p.map(abs, [-1, 2]) == [1, 2]; p.close(); p.join()'
