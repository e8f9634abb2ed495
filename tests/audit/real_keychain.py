"""Run under dbus-run-session with an unlocked gnome-keyring: a log with a real Secret Service."""

import sys
from contextlib import closing

import secretstorage

from nono_mcp.audit import keystore, verify
from nono_mcp.audit.log import AuditLog

CALL = {"call": "c1", "tool": "run", "decision": "allow"}


def lock() -> None:
    with closing(secretstorage.dbus_init()) as connection:
        secretstorage.get_default_collection(connection).lock()


def main(state_dir: str) -> None:
    keychain = keystore.find_keychain(f"{state_dir}/audit")
    assert keychain is not None
    assert keychain.label == "Secret Service"
    assert keychain.get("nothing") is None
    keychain.put("text", "a" * 3000)
    keychain.put("text", "b" * 3000)
    assert keychain.get("text") == "b" * 3000
    for _ in range(3):
        with AuditLog.open(state_dir, keychain) as log, log.session({}) as session:
            session.append("call.start", CALL)
    report = verify.verify(state_dir, keychain)
    report.require()
    assert not report.warnings, report.warnings
    lock()
    keystore.KEYRING_WAIT_S = 3.0  # type: ignore[misc]
    with AuditLog.open(state_dir, keychain) as log, log.session({}) as session:
        session.append("call.start", CALL)
    locked = verify.verify(state_dir, keychain)
    assert locked.integrity.status == "ok", locked
    assert locked.completeness.status == "unchecked", locked
    assert any("introduced by the key file" in warning for warning in locked.warnings), locked
    sys.stdout.write("held\n")


if __name__ == "__main__":
    main(sys.argv[1])
