# needs: script
# tiers: namespaces
set -eu
script -qec 'test -t 0
test -t 1' /dev/null </dev/null
