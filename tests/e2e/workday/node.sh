# needs: node
set -eu
cat > n.js <<'EOF'
const fs = require("fs");
const { execSync } = require("child_process");
fs.writeFileSync("n", "1");
execSync("true");
require("os").cpus();
setTimeout(() => console.log("ok"), 10);
EOF
node n.js | grep -qx ok
