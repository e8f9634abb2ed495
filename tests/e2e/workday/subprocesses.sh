set -eu
/usr/bin/python3 -c 'import subprocess, concurrent.futures as f
with f.ThreadPoolExecutor(4) as e: assert list(e.map(lambda n: subprocess.run(["sh", "-c", f"exit {n}"]).returncode, range(8))) == list(range(8))'
