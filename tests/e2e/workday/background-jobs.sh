set -eu
for i in 1 2 3; do (sleep 0.05; echo $i >> log) & done; wait; test $(wc -l < log) -eq 3
