set -eu
/usr/bin/python3 -c 'import sqlite3; c = sqlite3.connect("e.db"); c.execute("create table t(a)"); c.commit()'
