# needs: cargo
set -eu
cargo init -q --vcs none --name c .
cargo build -q --offline
target/debug/c | grep -qx 'Hello, world!'
