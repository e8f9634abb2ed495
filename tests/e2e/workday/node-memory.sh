# needs: node
# tiers: namespaces
set -eu
node -e "process.memoryUsage()"
