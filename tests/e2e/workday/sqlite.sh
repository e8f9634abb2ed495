# needs: sqlite3
set -eu
sqlite3 d.db 'pragma journal_mode=wal; create table t(a); insert into t values(1); select * from t' | tail -1 | grep -qx 1
